/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * A start of the interpreter costs more than all that we do with it. So it is started once, when
 * the executable is built: every module is imported, and the memory that is the interpreter's (the
 * window: its variables and its heap, window.ld and heap.c) is put into the file. A process copies
 * it and goes on from there. libc and what is libc's starts in each process as ever.
 *
 * The file is position-independent, and so is the snapshot: it was taken at three load addresses,
 * and pyinit.host.frozen.snapshot knows by them which words are pointers. A bitmap for each page
 * says which words get the load address added.
 *
 * The window is a huge page where the kernel has one, and a few pages behind it: one page fault in
 * place of some four hundred. Where it has none (transparent_hugepage=never, none free, or a load
 * address that is no multiple of 2 MB, as older kernels choose it), the same code fills ordinary
 * pages.
 */
#define Py_BUILD_CORE 1
#include <Python.h>
#include <internal/pycore_import.h>
#include <internal/pycore_interp.h>
#include <internal/pycore_pystate.h>
#include <internal/pycore_runtime.h>

#include "heap.h"
#include "objects.h"
#include "prune.h"
#include "snapshot.h"
#include "types.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What is made anew below, and the lists of objects, are private to these versions. */
#if PY_VERSION_HEX < 0x030b0000 || PY_VERSION_HEX >= 0x030e0000 || \
	(PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030d0000) || defined(Py_GIL_DISABLED)
#error "the snapshot knows CPython 3.11 and 3.13, with the GIL"
#endif

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

enum {
	PAGE = 4096,
	WORDS = PAGE / sizeof(uint64_t),
	MAPS = WORDS / 64, /* bitmaps of a page */
};

/* Pages that follow each other in the window and in the file. Offsets from the image's start. */
struct run {
	uint64_t window, template, pages;
};

/* Filled by pyinit.host.frozen.image. */
struct header {
	uint64_t runs_at, runs;
	uint64_t maps_at; /* MAPS words for each page, in the order of the runs */
	uint64_t odd_at, odd; /* offsets of pointers that are not aligned: in the inline caches of code */
};

extern const struct header cfs_snapshot;
__attribute__((section(".rodata.cfs_snapshot"))) const struct header cfs_snapshot = {0};

static const struct header *the_header(void)
{
	const struct header *header = &cfs_snapshot;

	__asm__("" : "+r"(header)); /* the compiler must not believe the zeros above */
	return header;
}

extern char __ehdr_start[];
extern char cfs_window_start[], cfs_window_end[];

/* Page by page: what was copied is at hand when its pointers are counted up. */
static void fill(const struct run *run, const uint64_t *map, uint64_t base)
{
	char *to = __ehdr_start + run->window;
	const char *from = __ehdr_start + run->template;

	for (uint64_t page = 0; page < run->pages; page++, to += PAGE, from += PAGE) {
		uint64_t *words = (uint64_t *)(void *)to;

		memcpy(to, from, PAGE);
		for (int at = 0; at < MAPS; at++, words += 64)
			for (uint64_t bits = *map++; bits; bits &= bits - 1)
				words[__builtin_ctzll(bits)] += base;
	}
}

bool snapshot_restore(void)
{
	const struct header header = *the_header();
	const struct run *run = (const struct run *)(void *)(__ehdr_start + header.runs_at);
	const uint64_t *map = (const uint64_t *)(void *)(__ehdr_start + header.maps_at);
	const uint64_t *odd = (const uint64_t *)(void *)(__ehdr_start + header.odd_at);
	const uint64_t base = (uint64_t)(uintptr_t)__ehdr_start;
	size_t size = (size_t)(cfs_window_end - cfs_window_start);
	const struct run *last;

	if (!header.runs)
		return false;
	last = run + header.runs - 1;
	/* Advice: where the kernel does not take it, the pages come one by one. In the file, all runs
	 * are side by side. */
	madvise(cfs_window_start, size, MADV_HUGEPAGE);
	madvise(__ehdr_start + run->template,
		last->template + last->pages * PAGE - run->template, MADV_POPULATE_READ);
	for (uint64_t index = 0; index < header.runs; index++, run++) {
		madvise(__ehdr_start + run->window, run->pages * PAGE, MADV_POPULATE_WRITE);
		fill(run, map, base);
		map += run->pages * MAPS;
	}
	for (uint64_t index = 0; index < header.odd; index++) {
		uint64_t word;

		memcpy(&word, __ehdr_start + odd[index], sizeof(word));
		word += base;
		memcpy(__ehdr_start + odd[index], &word, sizeof(word));
	}
	return true;
}

#if PY_VERSION_HEX >= 0x030d0000
#define THREAD_KEY _PyRuntime.autoTSSkey
#define IMMORTAL _Py_IMMORTAL_REFCNT
#else
#define THREAD_KEY _PyRuntime.gilstate.autoTSSkey
#define IMMORTAL ((Py_ssize_t)1 << 60)
#endif

static PyThreadState *thread;   /* the only one */
static PyObject *environment_dict; /* posix.environ */

/*
 * What is made anew, and why:
 *   the key of thread-specific data    a number that libc gives out
 *   the thread's state in TLS (3.13)   TLS is libc's
 *   the thread's identities            of the process that runs
 *   posix.environ                      of the process that runs
 * and by main(): sys.argv. What else there is belongs to the image. The hash seed is 0 in every
 * process (main.c).
 */
const char *snapshot_resume(char **environment)
{
#if PY_VERSION_HEX >= 0x030d0000
	_Py_tss_tstate = thread;
#endif
	if (PyThread_tss_create(&THREAD_KEY) || PyThread_tss_set(&THREAD_KEY, thread))
		return "thread-specific data";
	_PyRuntime.main_thread = PyThread_get_thread_ident();
	thread->thread_id = PyThread_get_thread_ident();
	thread->native_thread_id = (unsigned long)gettid();

	for (char **at = environment; at && *at; at++) {
		const char *sign = strchr(*at, '=');
		PyObject *name, *value;
		int failed;

		if (!sign)
			continue;
		name = PyBytes_FromStringAndSize(*at, sign - *at);
		value = PyBytes_FromString(sign + 1);
		failed = !name || !value || !PyDict_SetDefault(environment_dict, name, value);
		Py_XDECREF(name);
		Py_XDECREF(value);
		if (failed)
			return "environment";
	}
	return NULL;
}

/* The dicts of types' subclasses have addresses as keys (as numbers: no relocation can know them).
 * Only their values are ever walked through. */
static int by_number(PyObject *dict)
{
	PyObject *key, *value, *values;
	Py_ssize_t at = 0;
	int failed = 0;

	if (!PyDict_Next(dict, &at, &key, &value) || !PyLong_CheckExact(key) ||
	    !PyWeakref_Check(value))
		return 0;
	values = PyDict_Values(dict);
	if (!values)
		return -1;
	PyDict_Clear(dict);
	for (Py_ssize_t index = 0; !failed && index < PyList_GET_SIZE(values); index++) {
		PyObject *number = PyLong_FromSsize_t(index);

		failed = !number ||
			 PyDict_SetItem(dict, number, PyList_GET_ITEM(values, index)) < 0;
		Py_XDECREF(number);
	}
	Py_DECREF(values);
	return failed ? -1 : 0;
}

static void visit_subclasses(PyObject *object, void *failed)
{
	if (PyDict_CheckExact(object) && by_number(object) < 0)
		*(int *)failed = -1;
}

static int subclasses_by_number(void)
{
	int failed = 0;

	objects_each(visit_subclasses, &failed);
	return failed;
}

/* The collector's lists go through all objects in the order of their making: two pointers each,
 * which is much of the compressed file, and it never runs. An object that is in no list must not be
 * deallocated, since some types take their objects out unasked: so each lives forever. */
static void settle(PyObject *object, void *unused)
{
	(void)unused;
	PyObject_GC_UnTrack(object);
	Py_SET_REFCNT(object, IMMORTAL);
}

static int write_all(const void *data, size_t size)
{
	const char *at = data;

	while (size) {
		ssize_t written = write(STDOUT_FILENO, at, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return -1;
		at += written;
		size -= (size_t)written;
	}
	return 0;
}

static const char *import_all(void)
{
	for (const struct _frozen *module = PyImport_FrozenModules; module->name; module++) {
		PyObject *imported = PyImport_ImportModule(module->name);

		if (!imported)
			return module->name;
		Py_DECREF(imported);
		PyGC_Collect(); /* of classes: the window has no room to spare */
	}
	return NULL;
}

extern const char cfs_needed[]; /* of pyinit.host.frozen.table */

/* A name that libc or configure left out would be missed when the code runs, in a boot. */
static const char *check_names(void)
{
	static char fault[256];

	for (const char *name = cfs_needed; *name; name += strlen(name) + 1) {
		const char *attribute = strchr(name, '.') + 1;
		PyObject *text = PyUnicode_FromStringAndSize(name, attribute - 1 - name);
		PyObject *module = text ? PyImport_GetModule(text) : NULL;
		int there = module && PyObject_HasAttrString(module, attribute);

		Py_XDECREF(text);
		Py_XDECREF(module);
		if (!there) {
			snprintf(fault, sizeof(fault), "this interpreter has no %s", name);
			return fault;
		}
	}
	return NULL;
}

/* Every import finds its module in sys.modules. The code of the modules is left out of the file, and
 * so is what loads them (pyinit.initrd.importer). */
static int forget_modules(void)
{
	static const struct _frozen none[1];
	PyObject *importer = PyImport_ImportModule("_frozen_importlib");
	PyObject *closed = importer ? PyObject_CallMethod(importer, "_close", NULL) : NULL;

	Py_XDECREF(importer);
	Py_XDECREF(closed);
	_PyImport_FrozenBootstrap = none;
	PyImport_FrozenModules = none;
	return closed ? 0 : -1;
}

const char *snapshot_take(void)
{
	const uint64_t base = (uint64_t)(uintptr_t)__ehdr_start;
	const char *failed = prune_types() < 0 ? "names of types" : types_forget();
	PyObject *posix, *handler;

	if (!failed)
		failed = import_all();
	if (!failed)
		failed = check_names();
	if (failed)
		return failed;
	/* The first look-up of an error handler makes the registry. */
	handler = PyCodec_LookupError("surrogateescape");
	posix = PyImport_ImportModule("posix");
	environment_dict = posix ? PyObject_GetAttrString(posix, "environ") : NULL;
	if (!handler || !environment_dict)
		return "surrogateescape, posix.environ";
	Py_DECREF(handler);
	Py_DECREF(posix);
	PyDict_Clear(environment_dict);
	if (forget_modules() < 0)
		return "importer";
	if (prune_names() < 0)
		return "names";

	/* A process lives for a moment, or waits without making cycles. */
	PyGC_Collect();
	PyGC_Disable();
	failed = types_forget_contexts();
	if (failed)
		return failed;
	if (subclasses_by_number() < 0)
		return "subclasses";
	objects_each(settle, NULL);
	/* Its slots are chosen by the addresses of names. */
	PyType_ClearCache();

	thread = PyThreadState_Get();
	/* Frames that ended. */
	if (thread->datastack_top)
		memset(thread->datastack_top, 0,
		       (size_t)((char *)thread->datastack_limit - (char *)thread->datastack_top));
	thread->thread_id = 0;
	thread->native_thread_id = 0;
	_PyRuntime.main_thread = 0;
	PyThread_tss_delete(&THREAD_KEY);
	heap_open();

	if (write_all(&base, sizeof(base)) < 0 ||
	    write_all(cfs_window_start, (size_t)(cfs_window_end - cfs_window_start)) < 0)
		return strerror(errno);
	return NULL;
}
