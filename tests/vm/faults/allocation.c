// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * For test builds only: the Nth allocation of the interpreter fails, once. In cfs-init, how many
 * there were, and which is to fail, stands in memory shared with inject.c (a descriptor that the
 * environment names).
 */
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

static struct counter {
	uint64_t count;
	uint64_t fail_at;
} *shared;

static const PyMemAllocatorDomain domains[] = { PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM,
						PYMEM_DOMAIN_OBJ };
static PyMemAllocatorEx original[3];

static int due(void)
{
	return ++shared->count == shared->fail_at;
}

static void *fail_malloc(void *context, size_t size)
{
	PyMemAllocatorEx *real = context;

	return due() ? NULL : real->malloc(real->ctx, size);
}

static void *fail_calloc(void *context, size_t count, size_t size)
{
	PyMemAllocatorEx *real = context;

	return due() ? NULL : real->calloc(real->ctx, count, size);
}

static void *fail_realloc(void *context, void *old, size_t size)
{
	PyMemAllocatorEx *real = context;

	return due() ? NULL : real->realloc(real->ctx, old, size);
}

static void plain_free(void *context, void *old)
{
	PyMemAllocatorEx *real = context;

	real->free(real->ctx, old);
}

static void hook(struct counter *counter)
{
	shared = counter;
	for (size_t i = 0; i < 3; i++) {
		PyMemAllocatorEx failing = { &original[i], fail_malloc, fail_calloc, fail_realloc,
					     plain_free };

		PyMem_GetAllocator(domains[i], &original[i]);
		PyMem_SetAllocator(domains[i], &failing);
	}
}

/* For unit tests: a call in which allocation number `fail_at`, from 1 on, fails. There may be less:
 * see *count. */
PyObject *cfs_test_call(PyObject *function, PyObject *arguments, uint64_t fail_at, uint64_t *count);

PyObject *cfs_test_call(PyObject *function, PyObject *arguments, uint64_t fail_at, uint64_t *count)
{
	struct counter counter = { 0, fail_at };
	PyObject *result, *lists = PyList_New(0);

	/* Lists come from the interpreter's stock as long as there are. */
	for (int i = 0; i < 100; i++) {
		PyObject *list = PyList_New(0);

		if (!list || PyList_Append(lists, list) < 0)
			abort();
		Py_DECREF(list);
	}
	hook(&counter);
	result = PyObject_CallObject(function, arguments);
	for (size_t i = 0; i < 3; i++)
		PyMem_SetAllocator(domains[i], &original[i]);
	Py_DECREF(lists);
	*count = counter.count;
	return result;
}

/* What allocation_start.c calls. */
void cfs_test_fail_allocations(void);

void cfs_test_fail_allocations(void)
{
	const char *number = getenv("CFS_TEST_ALLOCATIONS");
	void *counter;

	if (!number)
		return;
	counter = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(number), 0);
	if (counter == MAP_FAILED)
		abort();
	hook(counter);
}
