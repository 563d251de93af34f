/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Methods, getters and functions in C whose names nobody looks up: neither frozen code nor C code
 * has them (pyinit.host.frozen.named). They are taken out of the types and modules before the
 * snapshot, and their entries out of the tables of the types and modules, which nobody reads
 * again. Then no pointer leads to their code, and the second link leaves it out. Nothing is loaded
 * any more: of _imp all goes, and of the built-in functions exec(), which modules are loaded by.
 */
#define Py_BUILD_CORE 1
#include <Python.h>
#include <structmember.h>

#include "objects.h"
#include "prune.h"

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

extern char cfs_window_start[], cfs_window_end[];
/* Of pyinit.host.frozen.table: texts, one behind the other, and an empty one. The second has those
 * of frozen code alone: C code looks nothing up in errno and posix. */
extern const char cfs_kept[], cfs_frozen[];

enum { TABLES_MAX = 4096 };

/* Entries of tables, of what was taken out. */
struct entries {
	size_t count;
	struct {
		void *start;
		size_t size;
		bool used; /* by something that is left */
	} entry[TABLES_MAX];
};

/* What only pickling, copying, sys.getsizeof(), round() and the module math look up: nothing of these
 * is here, and the freezer refuses those that could be called. */
static bool unasked(const char *name)
{
	static const char *const names[] = {
		"__ceil__",	    "__copy__",	    "__deepcopy__", "__floor__",
		"__getnewargs__",   "__getnewargs_ex__", "__getstate__", "__reduce__",
		"__reduce_ex__",    "__round__",    "__setstate__", "__sizeof__",
	};

	for (size_t index = 0; index < sizeof(names) / sizeof(*names); index++)
		if (strcmp(names[index], name) == 0)
			return true;
	return false;
}

static bool kept(const char *names, const char *name)
{
	if (unasked(name))
		names = cfs_frozen;
	else if (strncmp(name, "__", 2) == 0)
		return true;
	for (; *names; names += strlen(names) + 1)
		if (strcmp(names, name) == 0)
			return true;
	return false;
}

static void *entry_of(PyObject *object, size_t *size)
{
	PyTypeObject *type = Py_TYPE(object);

	if (type == &PyStaticMethod_Type || type == &PyClassMethod_Type)
		return NULL;
	*size = sizeof(PyMethodDef);
	if (type == &PyMethodDescr_Type || type == &PyClassMethodDescr_Type)
		return ((PyMethodDescrObject *)object)->d_method;
	if (PyObject_TypeCheck(object, &PyCFunction_Type))
		return ((PyCFunctionObject *)object)->m_ml;
	*size = sizeof(PyGetSetDef);
	if (type == &PyGetSetDescr_Type)
		return ((PyGetSetDescrObject *)object)->d_getset;
	*size = sizeof(PyMemberDef);
	if (type == &PyMemberDescr_Type)
		return ((PyMemberDescrObject *)object)->d_member;
	return NULL;
}

static bool in_window(const void *start)
{
	return (const char *)start >= cfs_window_start && (const char *)start < cfs_window_end;
}

/* Of a type's dict only what comes from tables. Of a module's dict anything. */
static int prune(PyObject *dict, const char *names, bool all, struct entries *entries)
{
	PyObject *keys = PyDict_Keys(dict);
	int failed = keys ? 0 : -1;

	for (Py_ssize_t index = 0; !failed && index < PyList_GET_SIZE(keys); index++) {
		PyObject *key = PyList_GET_ITEM(keys, index);
		const char *name = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : NULL;
		PyObject *value = name && !kept(names, name) ? PyDict_GetItem(dict, key) : NULL;
		size_t size = 0;
		void *start = value ? entry_of(value, &size) : NULL;

		if (!value || (!start && !all))
			continue;
		if (start && in_window(start)) {
			if (entries->count == TABLES_MAX) {
				PyErr_SetString(PyExc_MemoryError, "more than TABLES_MAX names");
				failed = -1;
				break;
			}
			entries->entry[entries->count].start = start;
			entries->entry[entries->count].used = false;
			entries->entry[entries->count++].size = size;
		}
		failed = PyDict_DelItem(dict, key);
	}
	Py_XDECREF(keys);
	return failed;
}

/* The freezer refuses `**` and pow(). What they call brings half of libc's mathematics with it. */
static int forget_power(PyTypeObject *type, PyObject *dict)
{
	static const char *const names[] = {"__pow__", "__rpow__", "__ipow__"};

	if (type->tp_as_number && in_window(type->tp_as_number)) {
		type->tp_as_number->nb_power = NULL;
		type->tp_as_number->nb_inplace_power = NULL;
	}
	for (size_t index = 0; index < sizeof(names) / sizeof(*names); index++)
		if (PyDict_GetItemString(dict, names[index]) &&
		    PyDict_DelItemString(dict, names[index]) < 0)
			return -1;
	return 0;
}

/* A distribution's libpython has the texts of all types. */
static int forget_text(PyObject *dict)
{
	PyObject *text = PyDict_GetItemString(dict, "__doc__");

	return text && text != Py_None ? PyDict_SetItemString(dict, "__doc__", Py_None) : 0;
}

static int prune_type(PyTypeObject *type, struct entries *entries)
{
#if PY_VERSION_HEX >= 0x030d0000
	PyObject *dict = PyType_GetDict(type);
#else
	PyObject *dict = Py_XNewRef(type->tp_dict);
#endif
	PyObject *subclasses;
	int failed = dict && (prune(dict, cfs_kept, false, entries) < 0 ||
			      forget_power(type, dict) < 0 || forget_text(dict) < 0);

	Py_XDECREF(dict);
	PyType_Modified(type);
	if (failed)
		return -1;
	subclasses = PyObject_CallMethod((PyObject *)&PyType_Type, "__subclasses__", "O", type);
	failed = subclasses ? 0 : -1;
	for (Py_ssize_t index = 0; !failed && index < PyList_GET_SIZE(subclasses); index++)
		failed = prune_type((PyTypeObject *)PyList_GET_ITEM(subclasses, index), entries);
	Py_XDECREF(subclasses);
	return failed;
}

static int prune_module(const char *name, const char *names, struct entries *entries)
{
	PyObject *module = PyImport_ImportModule(name);
	int failed = module ? prune(PyModule_GetDict(module), names, true, entries) : -1;

	Py_XDECREF(module);
	return failed;
}

static void still_used(PyObject *object, void *context)
{
	struct entries *entries = context;
	size_t size;
	void *start = entry_of(object, &size);

	for (size_t index = 0; start && index < entries->count; index++)
		if (entries->entry[index].start == start)
			entries->entry[index].used = true;
}

/* What makes the modules in C: they are made, and nobody asks for another. */
static int forget_making(void)
{
	PyObject *modules = PyImport_GetModuleDict();
	PyObject *name, *module;
	Py_ssize_t at = 0;

	while (PyDict_Next(modules, &at, &name, &module)) {
		PyModuleDef *definition = PyModule_Check(module) ? PyModule_GetDef(module) : NULL;

		if (!definition || !definition->m_slots)
			continue;
		for (PyModuleDef_Slot *slot = definition->m_slots, *next; slot->slot; slot = next) {
			next = slot + 1;
			if (in_window(slot))
				memset(slot, 0, sizeof(*slot));
		}
		definition->m_slots = NULL;
	}
	for (struct _inittab *entry = PyImport_Inittab, *next; entry->name; entry = next) {
		next = entry + 1;
		memset(entry, 0, sizeof(*entry));
	}
	return PyErr_Occurred() ? -1 : 0;
}

static struct entries *entries;

int prune_types(void)
{
	/* Not of the heap: it is what ships, and has no room for this with CPython 3.13. */
	void *room = mmap(NULL, sizeof(*entries), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (room == MAP_FAILED) {
		PyErr_NoMemory();
		return -1;
	}
	entries = room;
	return prune_type(&PyBaseObject_Type, entries);
}

int prune_names(void)
{
	int failed;

	/* Of the types again: modules have made some since. */
	failed = forget_making() < 0 || prune_type(&PyBaseObject_Type, entries) < 0 ||
		 prune_module("builtins", cfs_kept, entries) < 0 ||
		 prune_module("sys", cfs_kept, entries) < 0 ||
		 PySys_SetObject("stdlib_module_names", NULL) < 0 ||
		 prune_module("errno", cfs_frozen, entries) < 0 ||
		 prune_module("posix", cfs_frozen, entries) < 0 ||
		 prune_module("_imp", "", entries) < 0 ||
		 PyDict_DelItemString(PyEval_GetBuiltins(), "exec") < 0;
	if (!failed) {
		PyGC_Collect();
		objects_each(still_used, entries);
		for (size_t index = 0; index < entries->count; index++)
			if (!entries->entry[index].used)
				memset(entries->entry[index].start, 0, entries->entry[index].size);
	}
	(void)munmap(entries, sizeof(*entries));
	entries = NULL;
	return failed ? -1 : 0;
}
