/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cfs_python.h"

#include <string.h>

PyObject *fail(int error, const char *text, PyObject *filename)
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

PyObject *none_or_fail(int error, const char *text, PyObject *filename)
{
	if (error < 0)
		return fail(error, text, filename);
	Py_RETURN_NONE;
}

PyObject *int_or_fail(int result, const char *text, PyObject *filename)
{
	if (result < 0)
		return fail(result, text, filename);
	return PyLong_FromLong(result);
}

int to_u64(PyObject *object, void *out)
{
	unsigned long long value = PyLong_AsUnsignedLongLong(object);

	if (PyErr_Occurred())
		return 0;
	*(uint64_t *)out = value;
	return 1;
}

int to_u32(PyObject *object, void *out)
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

int to_u16(PyObject *object, void *out)
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

int to_digest(PyObject *object, void *out)
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

PyObject *from_digest(const struct cfs_digest *digest)
{
	return Py_BuildValue("Hy#", digest->algorithm, digest->bytes, (Py_ssize_t)digest->size);
}
