/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The modules in C. This table stands in place of libpython's (its config.o), so that the linker
 * takes what is named here and nothing else. pyinit.host.frozen.sources.BUILTINS says the same to
 * the check of imports.
 */
#include <Python.h>

PyObject *PyInit__cfs(void);
PyObject *PyInit__imp(void);
PyObject *PyInit_errno(void);
PyObject *PyInit_posix(void);
PyObject *PyInit_time(void);

extern struct _inittab _PyImport_Inittab[];
struct _inittab _PyImport_Inittab[] = {
	{"_cfs", PyInit__cfs},
	{"_imp", PyInit__imp},
	{"errno", PyInit_errno},
	{"posix", PyInit_posix},
	{"time", PyInit_time},
	{"builtins", NULL}, /* made by the interpreter itself */
	{"sys", NULL},
	{NULL, NULL},
};
