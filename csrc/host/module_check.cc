/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A whole store, looked at. */
#include "module.h"

#include "check.h"

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cerrno>
#include <memory>

namespace py = pybind11;

namespace
{

py::str path_of(const std::string &path)
{
	return py::reinterpret_steal<py::str>(PyUnicode_DecodeFSDefaultAndSize(
		path.data(), static_cast<Py_ssize_t>(path.size())));
}

std::unique_ptr<cfs::Checked> check(int store, const std::string &objects, bool ostree,
				    const std::vector<std::string> &images, bool sealed,
				    unsigned threads, const py::function &progress)
{
	auto checked = std::make_unique<cfs::Checked>();

	{
		cfs::Progress told = progress_of(progress);
		py::gil_scoped_release free;

		checked->run({ store, objects, ostree, sealed }, images, threads, told);
	}
	if (checked->error) {
		errno = checked->error;
		PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError,
						     path_of(checked->unreadable).ptr());
		throw py::error_already_set();
	}
	return checked;
}

py::list wrong(const cfs::Checked &checked)
{
	py::list out;

	for (const cfs::Looked &one : checked.wrong)
		out.append(py::make_tuple(one.path, one.digits, measured_of(one.measured)));
	return out;
}

py::list strange(const cfs::Checked &checked)
{
	py::list out;

	for (const std::string &path : checked.strange)
		out.append(path_of(path));
	return out;
}

} // namespace

void add_checks(py::module_ &module)
{
	py::class_<cfs::Checked>(module, "Checked")
		.def_readonly("objects", &cfs::Checked::objects)
		.def_readonly("sealed", &cfs::Checked::sealed)
		.def_property_readonly("wrong", &wrong)
		.def_property_readonly("strange", &strange);
	module.def("check", &check, py::arg("store"), py::arg("objects"), py::arg("ostree"),
		   py::arg("images"), py::arg("sealed"), py::arg("threads"), py::arg("progress"));
}
