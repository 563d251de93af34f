/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The extension module `_cfs` over cfs.h; its surface is described in _cfs.pyi.
 *
 * Converts arguments, calls, turns -errno into OSError; nothing more. One-phase initialization, so
 * that it can be a built-in module of an interpreter whose own importer is smaller than importlib.
 */
#include "cfs_python.h"

static PyMethodDef *const methods[] = {
	digest_methods, pe_methods, store_methods, mount_methods, boot_methods,
};

static const struct {
	const char *name;
	long value;
} constants[] = {
	{ "SHA256", CFS_SHA256 },
	{ "SHA512", CFS_SHA512 },
	{ "LAYOUT_OBJECTS", CFS_LAYOUT_OBJECTS },
	{ "LAYOUT_REPOSITORY", CFS_LAYOUT_REPOSITORY },
	{ "LAYOUT_OSTREE", CFS_LAYOUT_OSTREE },
	{ "PE_BASE", CFS_PE_BASE },
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_cfs",
	.m_size = -1,
};

PyMODINIT_FUNC PyInit__cfs(void);

PyMODINIT_FUNC PyInit__cfs(void)
{
	PyObject *module = PyModule_Create(&definition);

	if (!module)
		return NULL;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (PyModule_AddFunctions(module, methods[i]) < 0)
			goto failed;
	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
		if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
			goto failed;
	return module;
failed:
	Py_DECREF(module);
	return NULL;
}
