/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The hash of an object without a hash of its own: a type, a function. The interpreter's is the
 * address; then a dict of the snapshot would lose such keys at another load address. This one
 * counts from the image's start, where all objects of the snapshot are. (ld --wrap)
 */
#include <Python.h>

#include <stdint.h>

extern char __ehdr_start[];

static Py_hash_t hash_of(const void *object)
{
	size_t offset = (uintptr_t)object - (uintptr_t)__ehdr_start;
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
