/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * `_cfshost`: the engine of the host's tools, by pybind11. It is in no initrd.
 *
 * What takes long runs without the interpreter's lock, and looks for signals meanwhile.
 */
#include "module.h"

#include "check.h"
#include "live.h"
#include "measure.h"
#include "naming.h"
#include "report.h"
#include "verity.h"

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <utility>

namespace py = pybind11;

cfs::Progress progress_of(const py::function &progress)
{
	return [&progress](uint64_t done, uint64_t bytes) {
		py::gil_scoped_acquire lock;

		if (PyErr_CheckSignals() != 0)
			throw py::error_already_set();
		progress(done, bytes);
		return true;
	};
}

py::tuple measured_of(const cfs::Measured &one)
{
	return py::make_tuple(one.error, one.regular, one.sealed, py::bytes(one.digest),
			      py::bytes(one.by_kernel));
}

namespace
{

constexpr size_t BETWEEN_SIGNALS = 1024;

/* A view of a bytes object, which it keeps. Those do not change. */
class Held {
    public:
	explicit Held(py::bytes data) : data_(std::move(data)), image_(view(data_))
	{
	}
	const cfs::Image &image() const
	{
		return image_;
	}

    private:
	static std::string_view view(const py::bytes &data)
	{
		return static_cast<std::string_view>(data);
	}

	py::bytes data_;
	cfs::Image image_;
};

using Images = std::vector<std::shared_ptr<Held>>;

void check_signals()
{
	py::gil_scoped_acquire lock;

	if (PyErr_CheckSignals() != 0)
		throw py::error_already_set();
}

cfs::Sink sink_of(const py::function &write)
{
	return [&write](std::string_view piece) {
		py::gil_scoped_acquire lock;

		write(py::bytes(piece.data(), piece.size()));
	};
}

void dump(const Held &held, const py::function &write)
{
	cfs::Sink sink = sink_of(write);
	py::gil_scoped_release free;

	cfs::dump(held.image(), sink);
}

bool list(const Held &held, const std::string &path, const py::function &write)
{
	cfs::Sink sink = sink_of(write);
	py::gil_scoped_release free;

	return cfs::list(held.image(), path, sink);
}

py::list files(const Held &held, const std::string &directory)
{
	py::list out;

	cfs::files(held.image(), directory,
		   [&out](std::string_view name, std::string_view content,
			  std::string_view payload) {
			   out.append(py::make_tuple(py::bytes(name.data(), name.size()),
						     py::bytes(content.data(), content.size()),
						     py::bytes(payload.data(), payload.size())));
		   });
	return out;
}

/* Of all images together, each once and in order. */
std::vector<std::string_view> all_objects(const Images &images)
{
	std::vector<std::string_view> all, one, both;

	for (const auto &held : images) {
		one = cfs::objects(held->image());
		if (all.empty()) {
			all.swap(one);
			continue;
		}
		both.clear();
		both.reserve(all.size() + one.size());
		std::set_union(all.begin(), all.end(), one.begin(), one.end(),
			       std::back_inserter(both));
		all.swap(both);
		check_signals();
	}
	return all;
}

py::bytes lines(const std::vector<std::string_view> &names)
{
	size_t size = names.size();
	py::bytes text;
	char *out;

	for (std::string_view name : names)
		size += name.size();
	/* Written where it stays: new memory is what most of the time goes to. */
	text = py::reinterpret_steal<py::bytes>(
		PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size)));
	if (!text)
		throw py::error_already_set();
	out = PyBytes_AS_STRING(text.ptr());
	for (std::string_view name : names) {
		out = std::copy(name.begin(), name.end(), out);
		*out++ = '\n';
	}
	return text;
}

py::tuple objects(const Images &images)
{
	std::vector<std::string_view> found;

	{
		py::gil_scoped_release free;

		found = all_objects(images);
	}
	return py::make_tuple(lines(found), found.size());
}

/* What of them is no regular file below the directory. `checked`: what was just read there. */
py::tuple missing(const Images &images, int directory, const cfs::Checked *checked)
{
	std::vector<std::string_view> found, others, absent;
	std::string name;
	int error = 0;

	{
		py::gil_scoped_release free;

		found = all_objects(images);
		others = checked ? checked->others(found) : found;
		for (size_t i = 0; i < others.size() && !error; i++) {
			struct stat status;

			name = others[i];
			if (fstatat(directory, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
				if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG)
					error = errno;
				absent.push_back(others[i]);
			} else if (!S_ISREG(status.st_mode)) {
				absent.push_back(others[i]);
			}
			if (i % BETWEEN_SIGNALS == BETWEEN_SIGNALS - 1)
				check_signals();
		}
	}
	if (error) {
		errno = error;
		PyErr_SetFromErrnoWithFilename(PyExc_OSError, name.c_str());
		throw py::error_already_set();
	}
	return py::make_tuple(lines(absent), absent.size(), found.size());
}

using Named = std::vector<std::pair<std::string, int>>;

std::vector<cfs::File> files_of(const Named &named)
{
	std::vector<cfs::File> files;

	for (const auto &[name, algorithm] : named)
		files.push_back({ name, algorithm, -1 });
	return files;
}

/* (errno, regular, sealed, digest, the kernel's digest) of each (name, algorithm). */
py::list measure(int directory, const Named &named, unsigned threads, bool follow,
		 const py::function &progress)
{
	std::vector<cfs::File> files = files_of(named);
	std::vector<cfs::Measured> found;
	py::list out;

	{
		cfs::Progress told = progress_of(progress);
		py::gil_scoped_release free;

		found = cfs::measure(directory, files, threads, follow, told);
	}
	for (const cfs::Measured &one : found)
		out.append(measured_of(one));
	return out;
}

/* (errno, whether it is the copy's, regular, fd, name, digest, size) of each (name, algorithm). */
py::list copy(int target, const Named &named, unsigned threads, bool follow, bool with_names,
	      const std::string &prefix, const py::function &progress)
{
	std::vector<cfs::File> files = files_of(named);
	std::vector<cfs::Copied> found;
	cfs::NewFiles where(target, with_names, prefix);
	py::list out;

	{
		cfs::Progress told = progress_of(progress);
		py::gil_scoped_release free;

		found = cfs::copy(where, files, threads, follow, told);
	}
	for (cfs::Copied &one : found)
		out.append(py::make_tuple(one.error, one.ours, one.regular, one.file.fd(),
					  one.file.name(), py::bytes(one.digest), one.size));
	for (cfs::Copied &one : found)
		one.file.take();
	return out;
}

/* (errno, or 0) of each copy (pyinit/host/store/naming.py), whose descriptor and whose temporary
 * name are gone then, whatever comes. */
py::list give_names(int directory, const py::list &copies, unsigned threads)
{
	std::vector<cfs::Unnamed> files;
	py::list out;

	files.reserve(copies.size());
	for (py::handle copy : copies) {
		auto name = copy.attr("name").cast<std::string>();
		auto temporary = copy.attr("temporary").cast<std::string>();
		auto fd = copy.attr("fd").cast<int>();

		copy.attr("temporary") = "";
		copy.attr("fd") = -1;
		files.push_back({ cfs::NewFile(directory, fd, std::move(temporary)),
				  std::move(name) });
	}
	{
		py::gil_scoped_release free;

		cfs::give_names(directory, files, threads, [](uint64_t, uint64_t) {
			check_signals();
			return true;
		});
	}
	for (const cfs::Unnamed &one : files)
		out.append(one.error);
	return out;
}

/* All that was written to the file system so far is on the disk. */
void sync_all(int directory)
{
	int error;

	{
		py::gil_scoped_release free;

		error = syncfs(directory) != 0 ? errno : 0;
	}
	if (error) {
		errno = error;
		PyErr_SetFromErrno(PyExc_OSError);
		throw py::error_already_set();
	}
}

void add_image(cfs::Live &live, const Held &held)
{
	py::gil_scoped_release free;

	live.add(held.image());
}

void add_digests(cfs::Live &live, const py::bytes &raw, size_t size)
{
	if (!live.add(static_cast<std::string_view>(raw), size))
		throw py::value_error("no digests of that size");
}

/* ([(name, size, is it an image)], [strange name], how many are live) */
py::tuple scan(int directory, const std::string &prefix, const cfs::Live &live)
{
	cfs::Found found;
	py::list unused, strange;
	int error;

	{
		py::gil_scoped_release free;

		error = cfs::scan(directory, prefix, live, found);
	}
	if (error) {
		errno = error;
		PyErr_SetFromErrno(PyExc_OSError);
		throw py::error_already_set();
	}
	for (const cfs::Object &object : found.free)
		unused.append(py::make_tuple(object.name, object.size, object.image));
	for (const std::string &name : found.strange)
		strange.append(py::reinterpret_steal<py::str>(PyUnicode_DecodeFSDefaultAndSize(
			name.data(), static_cast<Py_ssize_t>(name.size()))));
	return py::make_tuple(unused, strange, found.live);
}

py::bytes verity_digest(const py::bytes &data, int algorithm)
{
	auto view = static_cast<std::string_view>(data);
	cfs::Verity verity(algorithm);
	std::string digest;

	{
		py::gil_scoped_release free;

		verity.add(reinterpret_cast<const uint8_t *>(view.data()), view.size());
		digest = verity.finish();
	}
	return py::bytes(digest);
}

} // namespace

PYBIND11_MODULE(_cfshost, module)
{
	/* Lives as long as the module, which nobody unloads. */
	static PyObject *malformed =
		PyErr_NewException("_cfshost.Malformed", PyExc_ValueError, nullptr);
	if (!malformed)
		throw py::error_already_set();
	module.add_object("Malformed", py::reinterpret_borrow<py::object>(malformed));
	py::register_exception_translator([](std::exception_ptr error) {
		try {
			if (error)
				std::rethrow_exception(error);
		} catch (const cfs::Malformed &broken) {
			py::tuple about = py::make_tuple(broken.what(), broken.offset());

			PyErr_SetObject(malformed, about.ptr());
		}
	});

	py::class_<Held, std::shared_ptr<Held>>(module, "Image")
		.def(py::init<py::bytes>(), py::arg("data"))
		.def_property_readonly("version",
				       [](const Held &held) { return held.image().version(); })
		.def("dump", &dump, py::arg("write"))
		.def("list", &list, py::arg("path"), py::arg("write"))
		.def("files", &files, py::arg("directory"));
	module.def("objects", &objects, py::arg("images"));
	module.def("missing", &missing, py::arg("images"), py::arg("directory"),
		   py::arg("checked") = nullptr);
	module.def("measure", &measure, py::arg("directory"), py::arg("files"), py::arg("threads"),
		   py::arg("follow"), py::arg("progress"));
	module.def("copy", &copy, py::arg("target"), py::arg("files"), py::arg("threads"),
		   py::arg("follow"), py::arg("named"), py::arg("prefix"), py::arg("progress"));
	module.def("give_names", &give_names, py::arg("directory"), py::arg("copies"),
		   py::arg("threads"));
	module.def("sync", &sync_all, py::arg("directory"));
	py::class_<cfs::Live>(module, "Live")
		.def(py::init<>())
		.def("add_image", &add_image, py::arg("image"))
		.def("add", &add_digests, py::arg("digests"), py::arg("size"))
		.def("__contains__",
		     [](const cfs::Live &live, const py::bytes &raw) {
			     return live.contains(static_cast<std::string_view>(raw));
		     })
		.def("__len__", &cfs::Live::count);
	module.def("scan", &scan, py::arg("directory"), py::arg("prefix"), py::arg("live"));
	module.def("verity_digest", &verity_digest, py::arg("data"), py::arg("algorithm"));
	add_checks(module);
	add_images(module);
}
