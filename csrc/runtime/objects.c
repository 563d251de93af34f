/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#define Py_BUILD_CORE 1
#include <Python.h>
#include <internal/pycore_interp.h>

#include "objects.h"

#include <stdint.h>

#if PY_VERSION_HEX >= 0x030d0000
#define NEXT(head) ((PyGC_Head *)((head)->_gc_next & ~(uintptr_t)3))
#else
#define NEXT(head) ((PyGC_Head *)(head)->_gc_next)
#endif

void objects_each(void (*visit)(PyObject *object, void *context), void *context)
{
	struct _gc_runtime_state *gc = &PyInterpreterState_Get()->gc;

	/* The oldest list first: new objects go to the end of the youngest. */
	for (int age = NUM_GENERATIONS - 1; age >= 0; age--) {
		PyGC_Head *head = &gc->generations[age].head;

		for (PyGC_Head *at = NEXT(head), *next; at != head; at = next) {
			next = NEXT(at);
			visit((PyObject *)(at + 1), context);
		}
	}
}
