/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cfs_python.h"

enum { OPTIONS_MAX = 64 };

static PyObject *namespace_enter(PyObject *module, PyObject *args)
{
	struct cfs_namespace saved;
	int error;

	(void)module;
	(void)args;
	error = cfs_namespace_enter(&saved);
	if (error < 0)
		return fail(error, NULL, NULL);
	return Py_BuildValue("iii", saved.mount_ns, saved.root, saved.cwd);
}

static PyObject *namespace_leave(PyObject *module, PyObject *args)
{
	struct cfs_namespace saved;

	(void)module;
	if (!PyArg_ParseTuple(args, "(iii):namespace_leave", &saved.mount_ns, &saved.root,
			      &saved.cwd))
		return NULL;
	return none_or_fail(cfs_namespace_leave(&saved), NULL, NULL);
}

/* The bytes of a str, which the list `keep` holds. NULL with an exception set. */
static const char *kept(PyObject *text, PyObject *keep)
{
	PyObject *bytes = NULL;
	int error;

	if (!PyUnicode_FSConverter(text, &bytes))
		return NULL;
	error = PyList_Append(keep, bytes);
	Py_DECREF(bytes);
	return error < 0 ? NULL : PyBytes_AsString(bytes);
}

/* The options as the core takes them; `keep` gets the bytes that they point into. */
static Py_ssize_t to_options(PyObject *pairs, struct cfs_option *options, PyObject *keep)
{
	Py_ssize_t count = PyTuple_Size(pairs);

	if (count > OPTIONS_MAX) {
		PyErr_SetString(PyExc_ValueError, "too many mount options");
		return -1;
	}
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *key, *value, *pair = PyTuple_GetItem(pairs, i);

		if (!PyTuple_Check(pair)) {
			PyErr_SetString(PyExc_TypeError, "an option is a pair (key, value)");
			return -1;
		}
		if (!PyArg_ParseTuple(pair, "OO:option", &key, &value))
			return -1;
		options[i].key = kept(key, keep);
		if (!options[i].key)
			return -1;
		options[i].value = NULL;
		if (value == Py_None)
			continue;
		options[i].value = kept(value, keep);
		if (!options[i].value)
			return -1;
	}
	return count;
}

static PyObject *fs_mount(PyObject *module, PyObject *args)
{
	struct cfs_option options[OPTIONS_MAX];
	struct cfs_log log = { "" };
	PyObject *list, *pairs, *keep, *result = NULL;
	uint64_t attributes;
	const char *type;
	Py_ssize_t count;
	int fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "sO!O&:fs_mount", &type, &PyList_Type, &list, to_u64,
			      &attributes))
		return NULL;
	/* A copy: what converts a key may run code that changes the list. */
	pairs = PyList_AsTuple(list);
	if (!pairs)
		return NULL;
	keep = PyList_New(0);
	count = keep ? to_options(pairs, options, keep) : -1;
	if (count >= 0) {
		UNLOCKED(fd, cfs_fs_mount(type, options, (size_t)count, attributes, &log));
		result = int_or_fail(fd, log.text, NULL);
	}
	Py_XDECREF(keep);
	Py_DECREF(pairs);
	return result;
}

static PyObject *erofs_mount(PyObject *module, PyObject *args)
{
	struct cfs_log log = { "" };
	bool used_loop = false;
	int image_fd, noacl, prefer_loop, fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "ipp:erofs_mount", &image_fd, &noacl, &prefer_loop))
		return NULL;
	UNLOCKED(fd, cfs_erofs_mount(image_fd, noacl != 0, prefer_loop != 0, &used_loop, &log));
	if (fd < 0)
		return fail(fd, log.text, NULL);
	return Py_BuildValue("iN", fd, PyBool_FromLong(used_loop));
}

static PyObject *overlay_mount(PyObject *module, PyObject *args)
{
	struct cfs_overlay overlay;
	struct cfs_log log = { "" };
	PyObject *source = NULL;
	uint64_t attributes;
	int require, fd, strict = 0;

	(void)module;
	overlay.upper_path = overlay.work_path = NULL;
	if (!PyArg_ParseTuple(args, "O&iiiipO&|zzp:overlay_mount", PyUnicode_FSConverter, &source,
			      &overlay.lower, &overlay.objects, &overlay.upper, &overlay.work,
			      &require, to_u64, &attributes, &overlay.upper_path,
			      &overlay.work_path, &strict))
		return NULL;
	overlay.source = PyBytes_AsString(source);
	overlay.require_verity = require != 0;
	overlay.strict = strict != 0;
	UNLOCKED(fd, cfs_overlay_mount(&overlay, attributes, &log));
	Py_DECREF(source);
	return int_or_fail(fd, log.text, NULL);
}

static PyObject *mount_attach(PyObject *module, PyObject *args)
{
	int mount_fd, directory_fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "ii:mount_attach", &mount_fd, &directory_fd))
		return NULL;
	UNLOCKED(error, cfs_mount_attach(mount_fd, directory_fd));
	return none_or_fail(error, NULL, NULL);
}

static PyObject *mount_clone(PyObject *module, PyObject *args)
{
	int directory_fd, recursive, fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "ip:mount_clone", &directory_fd, &recursive))
		return NULL;
	UNLOCKED(fd, cfs_mount_clone(directory_fd, recursive != 0));
	return int_or_fail(fd, NULL, NULL);
}

static PyObject *mount_clone_locked(PyObject *module, PyObject *args)
{
	int directory_fd, fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:mount_clone_locked", &directory_fd))
		return NULL;
	UNLOCKED(fd, cfs_mount_clone_locked(directory_fd));
	return int_or_fail(fd, NULL, NULL);
}

static PyObject *mount_set(PyObject *module, PyObject *args)
{
	uint64_t set, clear;
	int mount_fd, recursive, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "iO&O&p:mount_set", &mount_fd, to_u64, &set, to_u64, &clear,
			      &recursive))
		return NULL;
	UNLOCKED(error, cfs_mount_set(mount_fd, set, clear, recursive != 0));
	return none_or_fail(error, NULL, NULL);
}

static PyObject *mount_remount(PyObject *module, PyObject *args)
{
	struct cfs_log log = { "" };
	int mount_fd, writable, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "ip:mount_remount", &mount_fd, &writable))
		return NULL;
	UNLOCKED(error, cfs_mount_remount(mount_fd, writable != 0, &log));
	return none_or_fail(error, log.text, NULL);
}

static PyObject *mount_detach(PyObject *module, PyObject *args)
{
	int mount_fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:mount_detach", &mount_fd))
		return NULL;
	UNLOCKED(error, cfs_mount_detach(mount_fd));
	return none_or_fail(error, NULL, NULL);
}

static PyObject *mount_move(PyObject *module, PyObject *args)
{
	PyObject *from, *to;
	const char *old_name, *new_name;
	int error;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&O&:mount_move", PyUnicode_FSConverter, &from,
			      PyUnicode_FSConverter, &to))
		return NULL;
	old_name = PyBytes_AsString(from);
	new_name = PyBytes_AsString(to);
	UNLOCKED(error, cfs_mount_move(old_name, new_name));
	Py_DECREF(from);
	Py_DECREF(to);
	return none_or_fail(error, NULL, PyTuple_GetItem(args, 1));
}

static PyObject *loop_attach(PyObject *module, PyObject *args)
{
	int fd, writable, loop;

	(void)module;
	if (!PyArg_ParseTuple(args, "ip:loop_attach", &fd, &writable))
		return NULL;
	UNLOCKED(loop, cfs_loop_attach(fd, writable != 0));
	return int_or_fail(loop, NULL, NULL);
}

PyMethodDef mount_methods[] = {
	{ "namespace_enter", namespace_enter, METH_NOARGS, NULL },
	{ "namespace_leave", namespace_leave, METH_VARARGS, NULL },
	{ "fs_mount", fs_mount, METH_VARARGS, NULL },
	{ "erofs_mount", erofs_mount, METH_VARARGS, NULL },
	{ "overlay_mount", overlay_mount, METH_VARARGS, NULL },
	{ "mount_attach", mount_attach, METH_VARARGS, NULL },
	{ "mount_clone", mount_clone, METH_VARARGS, NULL },
	{ "mount_clone_locked", mount_clone_locked, METH_VARARGS, NULL },
	{ "mount_set", mount_set, METH_VARARGS, NULL },
	{ "mount_remount", mount_remount, METH_VARARGS, NULL },
	{ "mount_detach", mount_detach, METH_VARARGS, NULL },
	{ "mount_move", mount_move, METH_VARARGS, NULL },
	{ "loop_attach", loop_attach, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};
