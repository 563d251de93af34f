/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Images, their store, and the file systems of state. */
#include "cfs_python.h"

#include <string.h>

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

static int add_name(PyObject *list, const char *name)
{
	PyObject *text = PyUnicode_DecodeFSDefault(name);
	int error = text ? PyList_Append(list, text) : -1;

	Py_XDECREF(text);
	return error;
}

/* All names, each in its list. */
static int add_names(int fd, PyObject *directories, PyObject *files)
{
	char names[CFS_NAMES_MAX];
	size_t length;
	int more;

	do {
		UNLOCKED(more, cfs_directory_names(fd, names, sizeof(names), &length));
		if (more < 0) {
			fail(more, NULL, NULL);
			return -1;
		}
		for (size_t at = 0; at < length; at += strlen(names + at) + 1)
			if (add_name(names[at] == 'd' ? directories : files, names + at + 1) < 0)
				return -1;
	} while (more > 0);
	return 0;
}

static PyObject *directory_names(PyObject *module, PyObject *args)
{
	PyObject *directories, *files, *result = NULL;
	int fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:directory_names", &fd))
		return NULL;
	directories = PyList_New(0);
	files = PyList_New(0);
	if (directories && files && add_names(fd, directories, files) == 0)
		result = PyTuple_Pack(2, directories, files);
	Py_XDECREF(directories);
	Py_XDECREF(files);
	return result;
}

static PyObject *list_of(const struct cfs_names *names)
{
	PyObject *list = PyList_New(0);

	for (size_t at = 0; list && at < names->count; at++)
		if (add_name(list, names->name[at]) < 0)
			Py_CLEAR(list);
	return list;
}

static PyObject *directory_first(PyObject *module, PyObject *args)
{
	struct cfs_names directories, files;
	PyObject *first, *second, *result = NULL;
	int fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:directory_first", &fd))
		return NULL;
	UNLOCKED(error, cfs_directory_first(fd, &directories, &files));
	if (error < 0)
		return fail(error, NULL, NULL);
	first = list_of(&directories);
	second = first ? list_of(&files) : NULL;
	if (second)
		result = PyTuple_Pack(4, first, second, directories.more ? Py_True : Py_False,
				      files.more ? Py_True : Py_False);
	Py_XDECREF(first);
	Py_XDECREF(second);
	return result;
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
	{ "directory_first", directory_first, METH_VARARGS, NULL },
	{ "directory_names", directory_names, METH_VARARGS, NULL },
	{ "image_header", image_header, METH_VARARGS, NULL },
	{ "store_open", store_open, METH_VARARGS, NULL },
	{ "store_open_image", store_open_image, METH_VARARGS, NULL },
	{ "image_open", image_open, METH_VARARGS, NULL },
	{ "open_beneath", open_beneath, METH_VARARGS, NULL },
	{ "inherited_clear", inherited_clear, METH_VARARGS, NULL },
	{ "filesystem_grow", filesystem_grow, METH_VARARGS, NULL },
	{ "btrfs_scan", btrfs_scan, METH_VARARGS, NULL },
	{ "file_lock", file_lock, METH_VARARGS, NULL },
	{ "filesystem_sync", filesystem_sync, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};
