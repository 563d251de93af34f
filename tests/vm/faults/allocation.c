// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * For a test build of cfs-init only: the Nth allocation of the interpreter fails, once. How many
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

__attribute__((constructor)) static void cfs_test_fail_allocations(void)
{
	static const PyMemAllocatorDomain domains[] = { PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM,
							PYMEM_DOMAIN_OBJ };
	const char *number = getenv("CFS_TEST_ALLOCATIONS");

	if (!number)
		return;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(number), 0);
	if (shared == MAP_FAILED)
		abort();
	for (size_t i = 0; i < 3; i++) {
		PyMemAllocatorEx failing = { &original[i], fail_malloc, fail_calloc, fail_realloc,
					     plain_free };

		PyMem_GetAllocator(domains[i], &original[i]);
		PyMem_SetAllocator(domains[i], &failing);
	}
}
