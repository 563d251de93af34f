/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Images, made of texts, directories and layers. */
#include "module.h"

#include "archive.h"
#include "dump.h"
#include "scan.h"
#include "unpack.h"
#include "writer.h"

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <unistd.h>

#include <cerrno>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

namespace py = pybind11;

namespace
{

cfs::Versions known(unsigned least, unsigned most)
{
	cfs::Versions versions = { least, most };

	if (!versions.known())
		throw std::invalid_argument("no such version");
	return versions;
}

/* The tree goes before the bytes are Python's. */
py::bytes written(cfs::Tree &&from, cfs::Versions versions)
{
	std::optional<cfs::Tree> tree;
	std::optional<cfs::Writer> writer;
	py::bytes made;

	{
		py::gil_scoped_release free;

		tree.emplace(std::move(from));
		writer.emplace(*tree, versions);
	}
	/* Nobody has it yet, so it can be written to. */
	made = py::reinterpret_steal<py::bytes>(
		PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(writer->size())));
	if (!made)
		throw py::error_already_set();
	{
		char *out = PyBytes_AS_STRING(made.ptr());
		py::gil_scoped_release free;

		writer->write(out);
		writer.reset();
		tree.reset();
	}
	return made;
}

template <typename Make> cfs::Tree tree_of(const Make &make)
{
	py::gil_scoped_release free;

	return make();
}

/* An image of the tree that `make` gives. */
template <typename Make> py::bytes image_of(const Make &make, unsigned least, unsigned most)
{
	cfs::Versions versions = known(least, most);

	return written(tree_of(make), versions);
}

using Formats = std::vector<std::pair<unsigned, unsigned>>; /* the least and the most of each */

/* The same in several formats. */
template <typename Make> py::list images_of(const Make &make, const Formats &formats)
{
	std::vector<cfs::Versions> wanted;
	py::list all;

	for (auto [least, most] : formats)
		wanted.push_back(known(least, most));
	cfs::Tree tree = tree_of(make);
	for (size_t at = 0; at + 1 < wanted.size(); at++)
		all.append(written(tree_of([&] { return tree.copy(); }), wanted[at]));
	if (!wanted.empty())
		all.append(written(std::move(tree), wanted.back()));
	return all;
}

py::bytes make_image(const py::bytes &text, unsigned least, unsigned most)
{
	auto view = static_cast<std::string_view>(text);

	return image_of([view] { return cfs::read_dump(view); }, least, most);
}

py::bytes image_of_tree(int directory, unsigned threads, unsigned least, unsigned most,
			const cfs::Adjustment &how, const py::function &progress)
{
	cfs::Progress told = progress_of(progress);

	return image_of([&] { return cfs::scan_tree(directory, threads, how, told, nullptr); },
			least, most);
}

cfs::Label label_of(const py::function &label)
{
	return [label](const std::string &path, uint16_t mode) {
		py::gil_scoped_acquire lock;

		return static_cast<std::string>(label(py::bytes(path), mode).cast<py::bytes>());
	};
}

/* (path, fd, name, digest, size) of each; the descriptors and names are the list's. */
py::list list_of(std::vector<cfs::Stored> &copies)
{
	py::list out;

	for (const cfs::Stored &one : copies)
		out.append(py::make_tuple(py::bytes(one.path), one.file.fd(), one.file.name(),
					  py::bytes(one.digest), one.size));
	for (cfs::Stored &one : copies)
		one.file.take();
	return out;
}

/* Copies go to the function `take`. */
class Taker {
    public:
	Taker(int target, bool with_names, const std::string &prefix, size_t limit,
	      const py::function &take)
		: files_(target, with_names, prefix)
	{
		if (limit == 0)
			throw std::invalid_argument("no copy at a time");
		target_.emplace(cfs::Target{ files_, limit, [&take](std::vector<cfs::Stored> &all) {
						    py::gil_scoped_acquire lock;

						    take(list_of(all));
					    } });
	}
	const cfs::Target *target() const
	{
		return &*target_;
	}

    private:
	cfs::NewFiles files_;
	std::optional<cfs::Target> target_;
};

py::list store_tree(int directory, int target, unsigned threads, const Formats &formats,
		    const cfs::Adjustment &how, bool with_names, const std::string &prefix,
		    size_t limit, const py::function &progress, const py::function &take)
{
	cfs::Progress told = progress_of(progress);
	Taker taker(target, with_names, prefix, limit, take);

	return images_of(
		[&] { return cfs::scan_tree(directory, threads, how, told, taker.target()); },
		formats);
}

/* (descriptor, what has been read of it, offset or none, size, raw digest or nothing) of each. */
using Part = std::tuple<int, std::string, std::optional<int64_t>, uint64_t, std::string>;

std::vector<cfs::Blob> blobs_of(const std::vector<Part> &parts)
{
	std::vector<cfs::Blob> blobs;

	for (const auto &[fd, start, offset, size, digest] : parts)
		blobs.push_back({ fd, start, offset.value_or(-1), size, digest });
	return blobs;
}

py::bytes image_of_layers(const std::vector<Part> &layers, unsigned threads, unsigned least,
			  unsigned most, const cfs::Adjustment &how, const py::function &progress,
			  uint64_t memory)
{
	cfs::Progress told = progress_of(progress);
	std::vector<cfs::Blob> blobs = blobs_of(layers);

	return image_of(
		[&] { return cfs::unpack_layers(blobs, threads, how, told, nullptr, memory); },
		least, most);
}

py::list store_layers(const std::vector<Part> &layers, int target, unsigned threads,
		      const Formats &formats, const cfs::Adjustment &how, bool with_names,
		      const std::string &prefix, size_t limit, const py::function &progress,
		      const py::function &take)
{
	cfs::Progress told = progress_of(progress);
	Taker taker(target, with_names, prefix, limit, take);
	std::vector<cfs::Blob> blobs = blobs_of(layers);

	return images_of(
		[&] {
			return cfs::unpack_layers(blobs, threads, how, told, taker.target(),
						  cfs::LAYERS_MEMORY);
		},
		formats);
}

/* (path, offset, size, whether it is a regular file) of each member of an archive. */
py::list members(int archive)
{
	std::vector<char> piece(4096);
	std::vector<cfs::Member> found;
	uint64_t place = 0;
	py::list out;

	{
		py::gil_scoped_release free;

		found = cfs::list_members(
			[&]() -> std::string_view {
				ssize_t got;

				do
					got = pread(archive, piece.data(), piece.size(),
						    static_cast<off_t>(place));
				while (got < 0 && errno == EINTR);
				if (got < 0)
					throw std::system_error(errno, std::generic_category());
				place += static_cast<uint64_t>(got);
				return { piece.data(), static_cast<size_t>(got) };
			},
			[&](uint64_t size) { place += size; });
	}
	for (const cfs::Member &one : found)
		out.append(py::make_tuple(py::bytes(one.path), one.offset, one.size, one.is_file));
	return out;
}

} // namespace

void add_images(py::module_ &module)
{
	/* They live as long as the module, which nobody unloads. */
	static PyObject *unfit = PyErr_NewException("_cfshost.Unfit", PyExc_ValueError, nullptr);
	static PyObject *unreadable =
		PyErr_NewException("_cfshost.Unreadable", PyExc_ValueError, nullptr);
	static PyObject *bad_layer =
		PyErr_NewException("_cfshost.BadLayer", PyExc_ValueError, nullptr);
	static PyObject *bad_archive =
		PyErr_NewException("_cfshost.BadArchive", PyExc_ValueError, nullptr);
	static PyObject *other_digest =
		PyErr_NewException("_cfshost.OtherDigest", PyExc_ValueError, nullptr);

	if (!unfit || !unreadable || !bad_layer || !bad_archive || !other_digest)
		throw py::error_already_set();
	module.add_object("Unfit", py::reinterpret_borrow<py::object>(unfit));
	module.add_object("Unreadable", py::reinterpret_borrow<py::object>(unreadable));
	module.add_object("BadLayer", py::reinterpret_borrow<py::object>(bad_layer));
	module.add_object("BadArchive", py::reinterpret_borrow<py::object>(bad_archive));
	module.add_object("OtherDigest", py::reinterpret_borrow<py::object>(other_digest));
	py::register_exception_translator([](std::exception_ptr error) {
		try {
			if (error)
				std::rethrow_exception(error);
		} catch (const cfs::Unfit &broken) {
			py::tuple about = py::make_tuple(broken.what(), broken.line());

			PyErr_SetObject(unfit, about.ptr());
		} catch (const cfs::Unreadable &broken) {
			py::tuple about = py::make_tuple(py::bytes(broken.path()), broken.error(),
							 broken.what());

			PyErr_SetObject(unreadable, about.ptr());
		} catch (const cfs::BadLayer &broken) {
			py::tuple about = py::make_tuple(broken.layer(), py::bytes(broken.path()),
							 broken.error(), broken.what(),
							 broken.at());

			PyErr_SetObject(bad_layer, about.ptr());
		} catch (const cfs::OtherDigest &found) {
			py::tuple about = py::make_tuple(found.layer(), py::bytes(found.digest()));

			PyErr_SetObject(other_digest, about.ptr());
		} catch (const cfs::BrokenTar &broken) { /* of an archive */
			PyErr_SetString(bad_archive, broken.what());
		} catch (const cfs::NoThread &failed) {
			py::tuple about =
				py::make_tuple(failed.code().value(), cfs::NoThread::TEXT);

			PyErr_SetObject(PyExc_OSError, about.ptr());
		} catch (const std::system_error &failed) {
			errno = failed.code().value();
			PyErr_SetFromErrno(PyExc_OSError);
		}
	});

	py::class_<cfs::Adjustment>(module, "Adjustment")
		.def(py::init([](bool bootable, bool by_root, std::optional<int64_t> latest,
				 std::vector<std::string> excluded,
				 const std::optional<py::function> &label, int algorithm) {
			     if (algorithm != cfs::SHA256 && algorithm != cfs::SHA512)
				     throw std::invalid_argument("an unknown algorithm of fs-verity");
			     return cfs::Adjustment{ bootable,
						     by_root,
						     latest.has_value(),
						     latest.value_or(0),
						     std::move(excluded),
						     label ? label_of(*label) : nullptr,
						     algorithm };
		     }),
		     py::arg("bootable") = false, py::arg("by_root") = false,
		     py::arg("latest") = py::none(), py::arg("excluded") = py::list(),
		     py::arg("label") = py::none(), py::arg("algorithm") = int{ cfs::SHA256 });
	module.def("make_image", &make_image, py::arg("text"), py::arg("least"), py::arg("most"));
	module.def("image_of_tree", &image_of_tree, py::arg("directory"), py::arg("threads"),
		   py::arg("least"), py::arg("most"), py::arg("how"), py::arg("progress"));
	module.def("store_tree", &store_tree, py::arg("directory"), py::arg("target"),
		   py::arg("threads"), py::arg("formats"), py::arg("how"),
		   py::arg("named"), py::arg("prefix"), py::arg("limit"), py::arg("progress"),
		   py::arg("take"));
	module.def("members", &members, py::arg("archive"));
	module.def("image_of_layers", &image_of_layers, py::arg("layers"), py::arg("threads"),
		   py::arg("least"), py::arg("most"), py::arg("how"), py::arg("progress"),
		   py::arg("memory") = uint64_t{ cfs::LAYERS_MEMORY });
	module.def("store_layers", &store_layers, py::arg("layers"), py::arg("target"),
		   py::arg("threads"), py::arg("formats"), py::arg("how"),
		   py::arg("named"), py::arg("prefix"), py::arg("limit"), py::arg("progress"),
		   py::arg("take"));
}
