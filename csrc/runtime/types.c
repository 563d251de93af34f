/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Types of which no object is ever made: frozen code has no name for them, no literal and no `async`
 * (the freezer refuses these), and C code that is left makes none. They stay in the lists of
 * types, and what they can do goes: then no pointer leads to their code, and the second link leaves
 * it out.
 */
#define Py_BUILD_CORE 1
#include <Python.h>
#include <internal/pycore_hamt.h>
#if PY_VERSION_HEX >= 0x030d0000
#include <internal/pycore_genobject.h>
#endif
#include <structmember.h>

#include "objects.h"
#include "types.h"

#include <stdbool.h>
#include <string.h>

extern char cfs_window_start[], cfs_window_end[];

static PyTypeObject *const without_objects[] = {
	&PyByteArray_Type,   &PyByteArrayIter_Type, &PyComplex_Type,      &PyPickleBuffer_Type,
	&PyContext_Type,     &PyContextVar_Type,    &PyContextToken_Type, &PyCoro_Type,
	&_PyCoroWrapper_Type, &PyAsyncGen_Type,     &PyODict_Type,        &PyODictIter_Type,
	&PyODictKeys_Type,   &PyODictItems_Type,    &PyODictValues_Type,
};
/* Of these there is one object, empty, which contexts begin with. */
static PyTypeObject *const of_contexts[] = {
	&_PyHamt_Type,          &_PyHamt_ArrayNode_Type, &_PyHamt_BitmapNode_Type,
	&_PyHamt_CollisionNode_Type, &_PyHamtKeys_Type,  &_PyHamtValues_Type,
	&_PyHamtItems_Type,
};

/* Of tables of entries that end with an empty one, and of tables of functions. */
#define FORGET_ENTRIES(table, member)                                                    \
	for (size_t index = 0; (table) && in_window(table) && (table)[index].member; index++) \
		memset(&(table)[index], 0, sizeof((table)[index]))
#define FORGET_TABLE(table)                                 \
	do {                                                \
		if ((table) && in_window(table))            \
			memset((table), 0, sizeof(*(table))); \
		(table) = NULL;                             \
	} while (0)

static bool in_window(const void *start)
{
	return (const char *)start >= cfs_window_start && (const char *)start < cfs_window_end;
}

static int forget(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030d0000
	PyObject *dict = PyType_GetDict(type);
#else
	PyObject *dict = Py_XNewRef(type->tp_dict);
#endif

	if (!dict)
		return -1;
	PyDict_Clear(dict); /* the descriptors: they lead to what follows */
	Py_DECREF(dict);
	FORGET_ENTRIES(type->tp_methods, ml_name);
	FORGET_ENTRIES(type->tp_members, name);
	FORGET_ENTRIES(type->tp_getset, name);
	type->tp_methods = NULL;
	type->tp_members = NULL;
	type->tp_getset = NULL;
	FORGET_TABLE(type->tp_as_async);
	FORGET_TABLE(type->tp_as_number);
	FORGET_TABLE(type->tp_as_sequence);
	FORGET_TABLE(type->tp_as_mapping);
	FORGET_TABLE(type->tp_as_buffer);
	type->tp_dealloc = NULL;
	type->tp_getattr = NULL;
	type->tp_setattr = NULL;
	type->tp_repr = NULL;
	type->tp_hash = NULL;
	type->tp_call = NULL;
	type->tp_str = NULL;
	type->tp_getattro = NULL;
	type->tp_setattro = NULL;
	type->tp_traverse = NULL;
	type->tp_clear = NULL;
	type->tp_richcompare = NULL;
	type->tp_iter = NULL;
	type->tp_iternext = NULL;
	type->tp_descr_get = NULL;
	type->tp_descr_set = NULL;
	type->tp_init = NULL;
	type->tp_alloc = NULL;
	type->tp_new = NULL;
	type->tp_free = NULL;
	type->tp_is_gc = NULL;
	type->tp_del = NULL;
	type->tp_finalize = NULL;
	type->tp_vectorcall = NULL;
	return 0;
}

static void look(PyObject *object, void *found)
{
	for (size_t index = 0; index < sizeof(without_objects) / sizeof(*without_objects); index++)
		if (PyObject_TypeCheck(object, without_objects[index]))
			*(const char **)found = Py_TYPE(object)->tp_name;
}

const char *types_forget(void)
{
	for (size_t index = 0; index < sizeof(without_objects) / sizeof(*without_objects); index++)
		if (forget(without_objects[index]) < 0)
			return "types";
	return NULL;
}

const char *types_forget_contexts(void)
{
	const char *found = NULL;

	objects_each(look, &found);
	for (size_t index = 0; !found && index < sizeof(of_contexts) / sizeof(*of_contexts); index++)
		found = forget(of_contexts[index]) < 0 ? "types" : NULL;
	return found;
}
