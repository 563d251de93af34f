/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Images, their store, and the file systems of state. */
#include "cfs_python.h"

static PyObject *image_header(PyObject *module, PyObject *args)
{
	struct cfs_image_header header;
	int fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:image_header", &fd))
		return NULL;
	UNLOCKED(error, cfs_image_header_read(fd, &header));
	if (error < 0)
		return fail(error, NULL, NULL);
	return Py_BuildValue("NINIK", PyBool_FromLong(header.composefs), header.composefs_version,
			     PyBool_FromLong(header.has_acl), header.erofs_magic,
			     (unsigned long long)header.size);
}

static PyObject *image_canary(PyObject *module, PyObject *args)
{
	char path[CFS_PATH_MAX];
	const char *why = NULL;
	int fd, found;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:image_canary", &fd))
		return NULL;
	UNLOCKED(found, cfs_canary_find_fd(fd, path, &why));
	if (found < 0)
		return fail(found, why, NULL);
	if (found == 0)
		Py_RETURN_NONE;
	return PyUnicode_DecodeFSDefault(path);
}

static PyObject *store_open(PyObject *module, PyObject *args)
{
	PyObject *path;
	struct cfs_store store;
	const char *name;
	int dir_fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "iO&:store_open", &dir_fd, PyUnicode_FSConverter, &path))
		return NULL;
	name = PyBytes_AsString(path);
	UNLOCKED(error, cfs_store_open(dir_fd, name, &store));
	Py_DECREF(path);
	if (error < 0)
		return fail(error, NULL, PyTuple_GetItem(args, 1));
	return Py_BuildValue("iii", store.root, store.objects, (int)store.layout);
}

static PyObject *store_open_image(PyObject *module, PyObject *args)
{
	char name[CFS_IMAGE_NAME_MAX] = "";
	struct cfs_digest digest;
	struct cfs_store store;
	PyObject *filename;
	int layout, fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "(iii)O&:store_open_image", &store.root, &store.objects,
			      &layout, to_digest, &digest))
		return NULL;
	store.layout = (enum cfs_layout)layout;
	UNLOCKED(fd, cfs_store_open_image(&store, &digest, name));
	if (fd >= 0)
		return Py_BuildValue("is", fd, name);
	filename = PyUnicode_FromString(name);
	if (filename) {
		fail(fd, NULL, filename);
		Py_DECREF(filename);
	}
	return NULL;
}

static PyObject *image_open(PyObject *module, PyObject *args)
{
	PyObject *path;
	const char *name;
	int dir_fd, fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "iO&:image_open", &dir_fd, PyUnicode_FSConverter, &path))
		return NULL;
	name = PyBytes_AsString(path);
	UNLOCKED(fd, cfs_image_open(dir_fd, name));
	Py_DECREF(path);
	return int_or_fail(fd, NULL, PyTuple_GetItem(args, 1));
}

static PyObject *memory_copy(PyObject *module, PyObject *args)
{
	int fd, copy;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:memory_copy", &fd))
		return NULL;
	UNLOCKED(copy, cfs_memory_copy(fd));
	return int_or_fail(copy, NULL, NULL);
}

static PyObject *open_beneath(PyObject *module, PyObject *args)
{
	PyObject *path;
	const char *name;
	int dir_fd, flags, fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "iO&i:open_beneath", &dir_fd, PyUnicode_FSConverter, &path,
			      &flags))
		return NULL;
	name = PyBytes_AsString(path);
	UNLOCKED(fd, cfs_open_beneath(dir_fd, name, flags));
	Py_DECREF(path);
	return int_or_fail(fd, NULL, PyTuple_GetItem(args, 1));
}

static PyObject *inherited_clear(PyObject *module, PyObject *args)
{
	int fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:inherited_clear", &fd))
		return NULL;
	UNLOCKED(error, cfs_inherited_clear(fd));
	return none_or_fail(error, NULL, NULL);
}

static PyObject *filesystem_grow(PyObject *module, PyObject *args)
{
	uint64_t size;
	int fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "iO&:filesystem_grow", &fd, to_u64, &size))
		return NULL;
	UNLOCKED(error, cfs_filesystem_grow(fd, size));
	return none_or_fail(error, NULL, NULL);
}

static PyObject *btrfs_scan(PyObject *module, PyObject *args)
{
	PyObject *path;
	const char *device;
	int error;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&:btrfs_scan", PyUnicode_FSConverter, &path))
		return NULL;
	device = PyBytes_AsString(path);
	UNLOCKED(error, cfs_btrfs_scan(device));
	Py_DECREF(path);
	return none_or_fail(error, NULL, NULL);
}

static PyObject *filesystem_sync(PyObject *module, PyObject *args)
{
	int fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:filesystem_sync", &fd))
		return NULL;
	UNLOCKED(error, cfs_filesystem_sync(fd));
	return none_or_fail(error, NULL, NULL);
}

static PyObject *file_lock(PyObject *module, PyObject *args)
{
	int fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:file_lock", &fd))
		return NULL;
	error = cfs_file_lock(fd);
	return none_or_fail(error, NULL, NULL);
}

PyMethodDef store_methods[] = {
	{ "image_canary", image_canary, METH_VARARGS, NULL },
	{ "image_header", image_header, METH_VARARGS, NULL },
	{ "store_open", store_open, METH_VARARGS, NULL },
	{ "store_open_image", store_open_image, METH_VARARGS, NULL },
	{ "image_open", image_open, METH_VARARGS, NULL },
	{ "memory_copy", memory_copy, METH_VARARGS, NULL },
	{ "open_beneath", open_beneath, METH_VARARGS, NULL },
	{ "inherited_clear", inherited_clear, METH_VARARGS, NULL },
	{ "filesystem_grow", filesystem_grow, METH_VARARGS, NULL },
	{ "btrfs_scan", btrfs_scan, METH_VARARGS, NULL },
	{ "file_lock", file_lock, METH_VARARGS, NULL },
	{ "filesystem_sync", filesystem_sync, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};
