/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The start of the interpreter, once, when the executable is built: see take.h.
 *
 * It is initialized to its core only (PyConfig._init_main = 0): no sys.path, no standard streams,
 * no site, no signal handlers; SIGINT and SIGPIPE keep the kernel's meaning.
 */
#define Py_BUILD_CORE 1
#include <Python.h>
#if PY_VERSION_HEX >= 0x030d0000
#include <internal/pycore_codecs.h>
#endif

#include "heap.h"
#include "snapshot.h"
#include "take.h"

static void *allocate_arena(void *context, size_t size)
{
	(void)context;
	return cfs_malloc(size);
}

static void free_arena(void *context, void *arena, size_t size)
{
	(void)context, (void)size;
	cfs_free(arena);
}

static PyStatus initialize(void)
{
	/* Of the stack of Python's frames. */
	PyObjectArenaAllocator arenas = {NULL, allocate_arena, free_arena};
	PyPreConfig before;
	PyConfig config;
	PyStatus status;

	PyPreConfig_InitIsolatedConfig(&before);
	before.allocator = PYMEM_ALLOCATOR_MALLOC; /* heap.c; pymalloc's tables go by addresses */
	before.utf8_mode = 1; /* undecodable bytes of names survive, whatever the locale */
	status = Py_PreInitialize(&before);
	if (PyStatus_Exception(status))
		return status;

	PyObject_SetArenaAllocator(&arenas);

	PyConfig_InitIsolatedConfig(&config);
	config._init_main = 0;
	config.site_import = 0;
	config.install_signal_handlers = 0;
	config.parse_argv = 0;
	config.module_search_paths_set = 1; /* and empty */
	/* Early in a boot the kernel may have no random numbers, and /dev/urandom is not there: the
	 * interpreter would refuse to start. Nothing here hashes more than a command line. */
	config.use_hash_seed = 1;
	config.hash_seed = 0;
	status = Py_InitializeFromConfig(&config);
	PyConfig_Clear(&config);
#if PY_VERSION_HEX >= 0x030d0000
	/* Of the rest of the initialization, what error handlers need (a surrogate in a constant is
	 * enough); 3.11 does this by itself when it is first wanted. */
	if (!PyStatus_Exception(status))
		status = _PyCodec_InitRegistry(PyInterpreterState_Get());
#endif
	return status;
}

int take_snapshot(void (*complain)(const char *what, const char *detail), void (*report)(void))
{
	PyStatus status = initialize();
	const char *failed;

	if (PyStatus_Exception(status)) {
		complain(status.func ? status.func : "start", status.err_msg);
		return -1;
	}
	failed = snapshot_take();
	if (failed && heap_was_full())
		failed = "the window of the interpreter's memory (csrc/runtime/heap.c) is full";
	if (failed) {
		complain("snapshot", failed);
		if (PyErr_Occurred())
			report();
	}
	return failed ? -1 : 0;
}
