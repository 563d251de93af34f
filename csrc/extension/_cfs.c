/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The extension module `_cfs` over cfs.h; its surface is described in _cfs.pyi.
 *
 * Converts arguments, calls, turns -errno into OSError; nothing more. The limited API, so that one
 * file serves every Python from 3.11; one-phase initialization, so that it can be a built-in module of
 * an interpreter whose own importer is smaller than importlib.
 */
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>

#include "../cfs.h"

#include <errno.h>
#include <string.h>

enum { OPTIONS_MAX = 64 };

/* What may wait for a disk or the kernel runs without the interpreter's lock. */
#define UNLOCKED(result, call)               \
	do {                                 \
		Py_BEGIN_ALLOW_THREADS       \
		(result) = (call);           \
		Py_END_ALLOW_THREADS         \
	} while (0)

/* ---- errors ---------------------------------------------------------------------------------- */

/* OSError(errno, text, filename). `text` NULL or empty: strerror's; `filename` (str, or what
 * os.fspath takes) may be NULL. Always NULL. */
static PyObject *fail(int error, const char *text, PyObject *filename)
{
	PyObject *message;
	PyObject *exception;

	if (!text || !*text)
		text = strerror(-error);
	/* The kernel's messages hold names from disks. */
	message = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "surrogateescape");
	if (!message)
		return NULL;
	/* OSError itself picks FileNotFoundError and the like. */
	if (filename)
		exception = PyObject_CallFunction(PyExc_OSError, "iOO", -error, message, filename);
	else
		exception = PyObject_CallFunction(PyExc_OSError, "iO", -error, message);
	Py_DECREF(message);
	if (!exception)
		return NULL;
	PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
	Py_DECREF(exception);
	return NULL;
}

static PyObject *none_or_fail(int error, const char *text, PyObject *filename)
{
	if (error < 0)
		return fail(error, text, filename);
	Py_RETURN_NONE;
}

static PyObject *int_or_fail(int result, const char *text, PyObject *filename)
{
	if (result < 0)
		return fail(result, text, filename);
	return PyLong_FromLong(result);
}

/* ---- arguments ------------------------------------------------------------------------------- */

/* "O&" converters: the formats "I" and "K" of PyArg_ParseTuple cut silently. */
static int to_u64(PyObject *object, void *out)
{
	unsigned long long value = PyLong_AsUnsignedLongLong(object);

	if (value == (unsigned long long)-1 && PyErr_Occurred())
		return 0;
	*(uint64_t *)out = value;
	return 1;
}

static int to_u32(PyObject *object, void *out)
{
	uint64_t value;

	if (!to_u64(object, &value))
		return 0;
	if (value > UINT32_MAX) {
		PyErr_SetString(PyExc_OverflowError, "more than 32 bits");
		return 0;
	}
	*(uint32_t *)out = (uint32_t)value;
	return 1;
}

static int to_u16(PyObject *object, void *out)
{
	uint64_t value;

	if (!to_u64(object, &value))
		return 0;
	if (value > UINT16_MAX) {
		PyErr_SetString(PyExc_OverflowError, "more than 16 bits");
		return 0;
	}
	*(uint16_t *)out = (uint16_t)value;
	return 1;
}

/* Pair (algorithm, bytes). One that is no digest stays one that the core refuses. */
static int to_digest(PyObject *object, void *out)
{
	struct cfs_digest *digest = out;
	const char *bytes;
	Py_ssize_t size;

	memset(digest, 0, sizeof(*digest));
	if (!PyTuple_Check(object)) {
		PyErr_SetString(PyExc_TypeError, "a digest is a pair (algorithm, bytes)");
		return 0;
	}
	if (!PyArg_ParseTuple(object, "O&y#:digest", to_u16, &digest->algorithm, &bytes, &size))
		return 0;
	if (size > CFS_DIGEST_MAX)
		return 1;
	digest->size = (uint16_t)size;
	memcpy(digest->bytes, bytes, (size_t)size);
	return 1;
}

static PyObject *from_digest(const struct cfs_digest *digest)
{
	return Py_BuildValue("Hy#", digest->algorithm, digest->bytes, (Py_ssize_t)digest->size);
}

/* ---- digest, verity -------------------------------------------------------------------------- */

static PyObject *digest_parse(PyObject *module, PyObject *args)
{
	struct cfs_digest digest;
	const char *text;
	Py_ssize_t size;
	int error;

	(void)module;
	if (!PyArg_ParseTuple(args, "y#:digest_parse", &text, &size))
		return NULL;
	error = cfs_digest_parse(text, (size_t)size, &digest);
	return error < 0 ? fail(error, NULL, NULL) : from_digest(&digest);
}

static PyObject *digest_format(PyObject *module, PyObject *args)
{
	char text[CFS_DIGEST_HEX_MAX];
	struct cfs_digest digest;
	int error;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&:digest_format", to_digest, &digest))
		return NULL;
	error = cfs_digest_format(&digest, text);
	return error < 0 ? fail(error, NULL, NULL) : PyUnicode_FromString(text);
}

static PyObject *digest_equal(PyObject *module, PyObject *args)
{
	struct cfs_digest a, b;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&O&:digest_equal", to_digest, &a, to_digest, &b))
		return NULL;
	return PyBool_FromLong(cfs_digest_equal(&a, &b));
}

static PyObject *verity_measure(PyObject *module, PyObject *args)
{
	struct cfs_digest digest;
	int fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:verity_measure", &fd))
		return NULL;
	UNLOCKED(error, cfs_verity_measure(fd, &digest));
	return error < 0 ? fail(error, NULL, NULL) : from_digest(&digest);
}

static PyObject *verity_enable(PyObject *module, PyObject *args)
{
	uint16_t algorithm;
	uint32_t block_size;
	int fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "iO&O&:verity_enable", &fd, to_u16, &algorithm, to_u32,
			      &block_size))
		return NULL;
	UNLOCKED(error, cfs_verity_enable(fd, algorithm, block_size));
	return none_or_fail(error, NULL, NULL);
}

/* ---- PE -------------------------------------------------------------------------------------- */

/* These two: -1 with an exception set. */
static int pe_from_fd(int fd, struct cfs_pe *pe)
{
	const char *why = NULL;
	int error;

	UNLOCKED(error, cfs_pe_parse_fd(fd, pe, &why));
	if (error < 0)
		fail(error, why, NULL);
	return error < 0 ? -1 : 0;
}

/* A fd or the whole file's bytes. */
static int pe_from(PyObject *source, struct cfs_pe *pe)
{
	const char *why = NULL;
	Py_ssize_t size;
	char *data;
	long fd;
	int error;

	if (!PyBytes_Check(source)) {
		fd = PyLong_AsLong(source);
		if (fd == -1 && PyErr_Occurred())
			return -1;
		return pe_from_fd(fd < 0 || fd > INT_MAX ? -1 : (int)fd, pe);
	}
	if (PyBytes_AsStringAndSize(source, &data, &size) < 0)
		return -1;
	error = cfs_pe_parse_buffer(data, (size_t)size, pe, &why);
	if (error < 0)
		fail(error, why, NULL);
	return error < 0 ? -1 : 0;
}

static PyObject *from_section(const struct cfs_pe_section *section)
{
	return Py_BuildValue("y#IIIII", section->name, (Py_ssize_t)sizeof(section->name),
			     section->virtual_size, section->virtual_address, section->raw_size,
			     section->raw_pointer, section->characteristics);
}

static PyObject *from_headers(const struct cfs_pe *pe)
{
	return Py_BuildValue(
		"{sKsHsHsIsIsIsIsKsKsKsKsKsKsI}",
		"file_size", (unsigned long long)pe->file_size,
		"machine", pe->machine,
		"magic", pe->magic,
		"file_alignment", pe->file_alignment,
		"section_alignment", pe->section_alignment,
		"size_of_image", pe->size_of_image,
		"size_of_headers", pe->size_of_headers,
		"header_offset", (unsigned long long)pe->header_offset,
		"checksum_offset", (unsigned long long)pe->checksum_offset,
		"certificate_directory", (unsigned long long)pe->certificate_directory,
		"certificate_offset", (unsigned long long)pe->certificate_offset,
		"certificate_size", (unsigned long long)pe->certificate_size,
		"section_table", (unsigned long long)pe->section_table,
		"section_count", pe->section_count);
}

static PyObject *pe_parse(PyObject *module, PyObject *args)
{
	PyObject *source, *sections, *section;
	struct cfs_pe pe;

	(void)module;
	if (!PyArg_ParseTuple(args, "O:pe_parse", &source) || pe_from(source, &pe) < 0)
		return NULL;
	sections = PyList_New(0);
	if (!sections)
		return NULL;
	for (uint32_t i = 0; i < pe.section_count; i++) {
		int error;

		section = from_section(&pe.sections[i]);
		error = section ? PyList_Append(sections, section) : -1;
		Py_XDECREF(section);
		if (error < 0) {
			Py_DECREF(sections);
			return NULL;
		}
	}
	return Py_BuildValue("NN", from_headers(&pe), sections);
}

static PyObject *pe_find(PyObject *module, PyObject *args)
{
	const char *why = NULL;
	PyObject *source;
	const char *name;
	struct cfs_pe pe;
	int profile, index;

	(void)module;
	if (!PyArg_ParseTuple(args, "Osi:pe_find", &source, &name, &profile) ||
	    pe_from(source, &pe) < 0)
		return NULL;
	index = cfs_pe_find(&pe, name, profile, &why);
	return int_or_fail(index, why, PyTuple_GetItem(args, 1));
}

static PyObject *pe_section_read(PyObject *module, PyObject *args)
{
	PyObject *result = NULL;
	char why[CFS_WHY_MAX];
	Py_ssize_t capacity;
	int fd, profile, length;
	const char *name;
	uint8_t *room;

	(void)module;
	if (!PyArg_ParseTuple(args, "isin:pe_section_read", &fd, &name, &profile, &capacity))
		return NULL;
	if (capacity < 0)
		return fail(-EMSGSIZE, NULL, PyTuple_GetItem(args, 1));
	if (capacity > CFS_CONFINED_MAX)
		capacity = CFS_CONFINED_MAX;
	room = PyMem_Malloc((size_t)capacity + 1);
	if (!room)
		return PyErr_NoMemory();
	UNLOCKED(length, cfs_pe_section_read_confined(fd, name, profile, room, (size_t)capacity, why));
	if (length >= 0)
		result = PyBytes_FromStringAndSize((const char *)room, length);
	else
		fail(length, *why ? why : NULL, PyTuple_GetItem(args, 1));
	PyMem_Free(room);
	return result;
}

/* ---- image, store ---------------------------------------------------------------------------- */

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
	PyObject *path, *bytes = NULL;
	struct cfs_store store;
	int dir_fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "iO:store_open", &dir_fd, &path) ||
	    !PyUnicode_FSConverter(path, &bytes))
		return NULL;
	UNLOCKED(error, cfs_store_open(dir_fd, PyBytes_AsString(bytes), &store));
	Py_DECREF(bytes);
	if (error < 0)
		return fail(error, NULL, path);
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
	PyObject *path, *bytes = NULL;
	int dir_fd, fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "iO:image_open", &dir_fd, &path) ||
	    !PyUnicode_FSConverter(path, &bytes))
		return NULL;
	UNLOCKED(fd, cfs_image_open(dir_fd, PyBytes_AsString(bytes)));
	Py_DECREF(bytes);
	return int_or_fail(fd, NULL, path);
}

/* ---- state ----------------------------------------------------------------------------------- */

static PyObject *open_beneath(PyObject *module, PyObject *args)
{
	PyObject *path, *bytes = NULL;
	int dir_fd, flags, fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "iOi:open_beneath", &dir_fd, &path, &flags) ||
	    !PyUnicode_FSConverter(path, &bytes))
		return NULL;
	UNLOCKED(fd, cfs_open_beneath(dir_fd, PyBytes_AsString(bytes), flags));
	Py_DECREF(bytes);
	return int_or_fail(fd, NULL, path);
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

static PyObject *filesystem_sync(PyObject *module, PyObject *args)
{
	int fd, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "i:filesystem_sync", &fd))
		return NULL;
	UNLOCKED(error, cfs_filesystem_sync(fd));
	return none_or_fail(error, NULL, NULL);
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

/* ---- namespace, mounts ----------------------------------------------------------------------- */

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

/* The options as the core takes them; `keep` gets the bytes that they point into. */
static Py_ssize_t to_options(PyObject *list, struct cfs_option *options, PyObject *keep)
{
	Py_ssize_t count = PyList_Size(list);

	if (count < 0)
		return -1;
	if (count > OPTIONS_MAX) {
		PyErr_SetString(PyExc_ValueError, "too many mount options");
		return -1;
	}
	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *key, *value, *item = PyList_GetItem(list, i);
		PyObject *key_bytes = NULL, *value_bytes = NULL;
		int error;

		if (!item || !PyTuple_Check(item)) {
			PyErr_SetString(PyExc_TypeError, "an option is a pair (key, value)");
			return -1;
		}
		if (!PyArg_ParseTuple(item, "OO:option", &key, &value) ||
		    !PyUnicode_FSConverter(key, &key_bytes))
			return -1;
		options[i].key = PyBytes_AsString(key_bytes);
		error = PyList_Append(keep, key_bytes);
		Py_DECREF(key_bytes);
		if (error < 0)
			return -1;
		options[i].value = NULL;
		if (value == Py_None)
			continue;
		if (!PyUnicode_FSConverter(value, &value_bytes))
			return -1;
		options[i].value = PyBytes_AsString(value_bytes);
		error = PyList_Append(keep, value_bytes);
		Py_DECREF(value_bytes);
		if (error < 0)
			return -1;
	}
	return count;
}

static PyObject *fs_mount(PyObject *module, PyObject *args)
{
	struct cfs_option options[OPTIONS_MAX];
	struct cfs_log log = { "" };
	PyObject *list, *keep, *result = NULL;
	uint64_t attributes;
	const char *type;
	Py_ssize_t count;
	int fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "sO!O&:fs_mount", &type, &PyList_Type, &list, to_u64,
			      &attributes))
		return NULL;
	keep = PyList_New(0);
	if (!keep)
		return NULL;
	count = to_options(list, options, keep);
	if (count >= 0) {
		UNLOCKED(fd, cfs_fs_mount(type, options, (size_t)count, attributes, &log));
		result = int_or_fail(fd, log.text, NULL);
	}
	Py_DECREF(keep);
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
	int require, fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "O&iiiipO&:overlay_mount", PyUnicode_FSConverter, &source,
			      &overlay.lower, &overlay.objects, &overlay.upper, &overlay.work,
			      &require, to_u64, &attributes))
		return NULL;
	overlay.source = PyBytes_AsString(source);
	overlay.require_verity = require != 0;
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
	PyObject *source, *target, *from = NULL, *to = NULL;
	int error;

	(void)module;
	if (!PyArg_ParseTuple(args, "OO:mount_move", &source, &target) ||
	    !PyUnicode_FSConverter(source, &from))
		return NULL;
	if (!PyUnicode_FSConverter(target, &to)) {
		Py_DECREF(from);
		return NULL;
	}
	UNLOCKED(error, cfs_mount_move(PyBytes_AsString(from), PyBytes_AsString(to)));
	Py_DECREF(from);
	Py_DECREF(to);
	return none_or_fail(error, NULL, target);
}

/* ---- PID 1 ----------------------------------------------------------------------------------- */

static PyObject *module_load(PyObject *module, PyObject *args)
{
	int fd, compressed, error;

	(void)module;
	if (!PyArg_ParseTuple(args, "ip:module_load", &fd, &compressed))
		return NULL;
	UNLOCKED(error, cfs_module_load(fd, compressed != 0));
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
	PyObject *path, *bytes = NULL;
	int error;

	(void)module;
	if (!PyArg_ParseTuple(args, "O:switch_root", &path) || !PyUnicode_FSConverter(path, &bytes))
		return NULL;
	UNLOCKED(error, cfs_switch_root(PyBytes_AsString(bytes)));
	Py_DECREF(bytes);
	return none_or_fail(error, NULL, path);
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

/* ---- module ---------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
	{ "digest_parse", digest_parse, METH_VARARGS, NULL },
	{ "digest_format", digest_format, METH_VARARGS, NULL },
	{ "digest_equal", digest_equal, METH_VARARGS, NULL },
	{ "verity_measure", verity_measure, METH_VARARGS, NULL },
	{ "verity_enable", verity_enable, METH_VARARGS, NULL },
	{ "pe_parse", pe_parse, METH_VARARGS, NULL },
	{ "pe_find", pe_find, METH_VARARGS, NULL },
	{ "pe_section_read", pe_section_read, METH_VARARGS, NULL },
	{ "image_header", image_header, METH_VARARGS, NULL },
	{ "store_open", store_open, METH_VARARGS, NULL },
	{ "store_open_image", store_open_image, METH_VARARGS, NULL },
	{ "image_open", image_open, METH_VARARGS, NULL },
	{ "open_beneath", open_beneath, METH_VARARGS, NULL },
	{ "filesystem_grow", filesystem_grow, METH_VARARGS, NULL },
	{ "filesystem_sync", filesystem_sync, METH_VARARGS, NULL },
	{ "loop_attach", loop_attach, METH_VARARGS, NULL },
	{ "namespace_enter", namespace_enter, METH_NOARGS, NULL },
	{ "namespace_leave", namespace_leave, METH_VARARGS, NULL },
	{ "fs_mount", fs_mount, METH_VARARGS, NULL },
	{ "erofs_mount", erofs_mount, METH_VARARGS, NULL },
	{ "overlay_mount", overlay_mount, METH_VARARGS, NULL },
	{ "mount_attach", mount_attach, METH_VARARGS, NULL },
	{ "mount_clone", mount_clone, METH_VARARGS, NULL },
	{ "mount_set", mount_set, METH_VARARGS, NULL },
	{ "mount_remount", mount_remount, METH_VARARGS, NULL },
	{ "mount_move", mount_move, METH_VARARGS, NULL },
	{ "mount_detach", mount_detach, METH_VARARGS, NULL },
	{ "module_load", module_load, METH_VARARGS, NULL },
	{ "root_is_initramfs", root_is_initramfs, METH_NOARGS, NULL },
	{ "initramfs_empty", initramfs_empty, METH_VARARGS, NULL },
	{ "switch_root", switch_root, METH_VARARGS, NULL },
	{ "reboot", reboot_machine, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
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
	.m_methods = methods,
};

PyMODINIT_FUNC PyInit__cfs(void);

PyMODINIT_FUNC PyInit__cfs(void)
{
	PyObject *module = PyModule_Create(&definition);

	if (!module)
		return NULL;
	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++) {
		if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0) {
			Py_DECREF(module);
			return NULL;
		}
	}
	return module;
}
