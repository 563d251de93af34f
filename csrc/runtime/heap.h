/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The interpreter's memory: see heap.c. */
#ifndef CFS_HEAP_H
#define CFS_HEAP_H

#include <stdbool.h>
#include <stddef.h>

/* The names that pyinit.host.frozen.interpreter gives to malloc() and its kin in libpython. */
void *cfs_malloc(size_t size);
void *cfs_calloc(size_t count, size_t size);
void *cfs_realloc(void *old, size_t size);
void cfs_free(void *block);

/* From now on new blocks that do not fit, or are large, come from libc. What is freed is not
 * cleared. What was freed before is not used again. */
void heap_open(void);

/* Was there no room for a block before it was opened? What failed then says something else. */
bool heap_was_full(void);

#endif
