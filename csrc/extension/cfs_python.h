/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What the files of the extension module share: the limited API, so that one file serves every
 * Python from 3.11; how -errno becomes OSError; and converters of arguments.
 */
#ifndef CFS_PYTHON_H
#define CFS_PYTHON_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>

#include "../cfs.h"

/* What may wait for a disk or the kernel runs without the interpreter's lock. */
#define UNLOCKED(result, call)               \
	do {                                 \
		Py_BEGIN_ALLOW_THREADS       \
		(result) = (call);           \
		Py_END_ALLOW_THREADS         \
	} while (0)

#pragma GCC visibility push(hidden)

/* OSError(errno, text, filename). `text` NULL or empty: strerror's; `filename` (str, or what
 * os.fspath takes) may be NULL. Always NULL. */
PyObject *fail(int error, const char *text, PyObject *filename);

/* The same where `error` is negative; else None, or the result as an int. */
PyObject *none_or_fail(int error, const char *text, PyObject *filename);
PyObject *int_or_fail(int result, const char *text, PyObject *filename);

/* "O&" converters: the formats "I" and "K" of PyArg_ParseTuple cut silently. */
int to_u64(PyObject *object, void *out);
int to_u32(PyObject *object, void *out);
int to_u16(PyObject *object, void *out);

/* Pair (algorithm, bytes). One that is no digest stays one that the core refuses. */
int to_digest(PyObject *object, void *out);
PyObject *from_digest(const struct cfs_digest *digest);

/* The functions of the module, each described in _cfs.pyi; terminated. */
extern PyMethodDef digest_methods[], pe_methods[], store_methods[], mount_methods[], boot_methods[];

#pragma GCC visibility pop

#endif
