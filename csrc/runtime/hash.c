/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The hash of a text has 16 bits here: of the interpreter's 64, which no compressor can make
 * smaller, there would be one in each text of the snapshot. No seed protects them in any case
 * (main.c), and 16 are enough for the dicts of ours.
 *
 * The hash of an object without a hash of its own: a type, a function. The interpreter's is the
 * address; then a dict of the snapshot would lose such keys at another load address. This one
 * counts from the image's start, where all objects of the snapshot are.
 *
 * (ld --wrap)
 */
#include <Python.h>

#include <stdint.h>

extern char __ehdr_start[], cfs_window_start[];

static Py_hash_t hash_of(const void *object)
{
	const uintptr_t address = (uintptr_t)object, start = (uintptr_t)__ehdr_start;
	/* Code, of a built-in function: it lies elsewhere after the second link. */
	size_t offset = address < (uintptr_t)cfs_window_start && address >= start ? 0 : address - start;
	/* The lowest bits of addresses are always 0. */
	Py_hash_t hash = (Py_hash_t)(offset >> 4 | offset << 60);

	return hash == -1 ? -2 : hash; /* -1 means an error */
}

/* 3.11 */
Py_hash_t __wrap__Py_HashPointer(const void *object);
Py_hash_t __wrap__Py_HashPointer(const void *object)
{
	return hash_of(object);
}

/* 3.13: these two, which call each other within one file of the interpreter */
Py_hash_t __wrap_Py_HashPointer(const void *object);
Py_hash_t __wrap_Py_HashPointer(const void *object)
{
	return hash_of(object);
}

Py_hash_t __wrap_PyObject_GenericHash(PyObject *object);
Py_hash_t __wrap_PyObject_GenericHash(PyObject *object)
{
	return hash_of(object);
}

Py_hash_t __real__Py_HashBytes(const void *data, Py_ssize_t size);
Py_hash_t __wrap__Py_HashBytes(const void *data, Py_ssize_t size);
Py_hash_t __wrap__Py_HashBytes(const void *data, Py_ssize_t size)
{
	return __real__Py_HashBytes(data, size) & 0xffff;
}
