/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What PID 1 does, and what is asked of another program. */
#include "cfs_python.h"

static PyObject *module_load(PyObject *module, PyObject *args)
{
	const char *arguments;
	int fd, compressed, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "iyp:module_load", &fd, &arguments, &compressed))
		return NULL;
	UNLOCKED(error, cfs_module_load(fd, arguments, compressed != 0));
	return none_or_fail(error, NULL, NULL);
}

static PyObject *root_is_initramfs(PyObject *module, PyObject *args)
{
	int result;

	(void)module;
	(void)args;
	result = cfs_root_is_initramfs();
	return result < 0 ? fail(result, NULL, NULL) : PyBool_FromLong(result);
}

static PyObject *initramfs_empty(PyObject *module, PyObject *args)
{
	int root_fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:initramfs_empty", &root_fd))
		return NULL;
	UNLOCKED(error, cfs_initramfs_empty(root_fd));
	return none_or_fail(error, NULL, NULL);
}

static PyObject *switch_root(PyObject *module, PyObject *args)
{
	PyObject *path;
	const char *name;
	int leave, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&p:switch_root", PyUnicode_FSConverter, &path, &leave))
		return NULL;
	name = PyBytes_AsString(path);
	UNLOCKED(error, cfs_switch_root(name, leave != 0));
	Py_DECREF(path);
	return none_or_fail(error, NULL, PyTuple_GetItem(args, 0));
}

static PyObject *terminal_pending(PyObject *module, PyObject *args)
{
	int fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:terminal_pending", &fd))
		return NULL;
	return int_or_fail(cfs_terminal_pending(fd), NULL, NULL);
}

static PyObject *outlive_initrd(PyObject *module, PyObject *args)
{
	(void)module;
	(void)args;
	return none_or_fail(cfs_outlive_initrd(), NULL, NULL);
}

static PyObject *close_from(PyObject *module, PyObject *args)
{
	uint32_t first;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&:close_from", to_u32, &first))
		return NULL;
	return none_or_fail(cfs_close_from(first), NULL, NULL);
}

static PyObject *reboot_machine(PyObject *module, PyObject *args)
{
	uint32_t command;
	int error;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&:reboot", to_u32, &command))
		return NULL;
	UNLOCKED(error, cfs_reboot(command));
	return none_or_fail(error, NULL, NULL);
}

static PyObject *ask(PyObject *module, PyObject *args)
{
	PyObject *path;
	const char *name, *question;
	Py_ssize_t size;
	int fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&y#:ask", PyUnicode_FSConverter, &path, &question, &size))
		return NULL;
	name = PyBytes_AsString(path);
	UNLOCKED(fd, cfs_ask(name, (const uint8_t *)question, (size_t)size));
	Py_DECREF(path);
	return int_or_fail(fd, NULL, PyTuple_GetItem(args, 0));
}

PyMethodDef boot_methods[] = {
	{ "module_load", module_load, METH_VARARGS, NULL },
	{ "root_is_initramfs", root_is_initramfs, METH_NOARGS, NULL },
	{ "initramfs_empty", initramfs_empty, METH_VARARGS, NULL },
	{ "switch_root", switch_root, METH_VARARGS, NULL },
	{ "outlive_initrd", outlive_initrd, METH_NOARGS, NULL },
	{ "close_from", close_from, METH_VARARGS, NULL },
	{ "terminal_pending", terminal_pending, METH_VARARGS, NULL },
	{ "reboot", reboot_machine, METH_VARARGS, NULL },
	{ "ask", ask, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};
