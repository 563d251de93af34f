/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The interpreter's memory lies in the executable's own image, behind its variables and in one
 * window with them (window.ld), so that a snapshot of the window holds all that the interpreter is.
 * libc's memory is not in it: libc starts anew in each process.
 *
 * Small blocks come from pages of one size class each, which grow up from the start; larger ones,
 * with their size in front, grow down from the end of the huge page. There is one thread. When the
 * two are close, the pages behind the huge page are taken for small blocks. When they meet, a block
 * comes from libc: the same MemoryError as ever, when that has none either. While the
 * snapshot is made it must not come to that, and what is freed is cleared, so that the same
 * sources always give the same file.
 */
#include "heap.h"

#include <errno.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
	PAGE = 4096,
	STEP = 16, /* and the alignment of every block */
	SMALL = 512,
	CLASSES = SMALL / STEP + 1,
	/* A larger block gains nothing by lying in the window, and would soon fill it. */
	LARGE = 16 << 10,
	BINS = 32,
	PAGES = 512 + 32, /* of the window, with its tail */
	KEPT = 16, /* pages for larger blocks, which cannot lie in the tail */
};

struct block {
	struct block *next;
};

struct size {
	alignas(STEP) size_t bytes;
};

extern char cfs_heap_start[], cfs_heap_end[], cfs_window_end[];

static struct {
	bool opened, full;
	char *pages;  /* the first that has no class yet */
	char *larger; /* the lowest of the larger blocks, its size included */
	char *tail;   /* its first page that has no class yet */
	struct block *freed[CLASSES];
	char *next[CLASSES], *end[CLASSES]; /* of the class's newest page */
	struct block *freed_larger[BINS];   /* by the logarithm of the size */
	unsigned char class[PAGES];
} heap;

static char *pages(void)
{
	return heap.pages ? heap.pages : cfs_heap_start;
}

static char *larger(void)
{
	return heap.larger ? heap.larger : cfs_heap_end;
}

static char *tail(void)
{
	return heap.tail ? heap.tail : cfs_heap_end;
}

static bool ours(const void *block)
{
	return (const char *)block >= cfs_heap_start && (const char *)block < cfs_window_end;
}

static bool is_small(const void *block)
{
	return (const char *)block < pages() || (const char *)block >= cfs_heap_end;
}

static size_t class_at(const void *block)
{
	return heap.class[(size_t)((const char *)block - cfs_heap_start) / PAGE];
}

static size_t size_of(const void *block)
{
	return is_small(block) ? class_at(block) * STEP : ((const struct size *)block)[-1].bytes;
}

static size_t bin_of(size_t size)
{
	size_t bin = 0;

	while (size >>= 1)
		bin++;
	return bin < BINS ? bin : BINS - 1;
}

/* Of a page that is there; null: none of this class has room. */
static void *of_class(size_t class)
{
	struct block *block = heap.freed[class];

	if (block) {
		heap.freed[class] = block->next;
		block->next = NULL;
	} else if ((size_t)(heap.end[class] - heap.next[class]) >= class * STEP) {
		block = (struct block *)(void *)heap.next[class];
		heap.next[class] += class * STEP;
	}
	return block;
}

/* A page that has no class yet, or null. */
static char *new_page(void)
{
	bool has_tail = cfs_window_end - tail() >= PAGE;
	char *page = pages();

	if (larger() - page >= (has_tail ? KEPT * PAGE : PAGE)) {
		heap.pages = page + PAGE;
		return page;
	}
	if (!has_tail)
		return NULL;
	page = tail();
	heap.tail = page + PAGE;
	return page;
}

static void *small(size_t size)
{
	size_t class = size ? (size + STEP - 1) / STEP : 1;
	void *block = of_class(class);
	char *page;

	if (block)
		return block;
	page = new_page();
	if (page) {
		heap.class[(size_t)(page - cfs_heap_start) / PAGE] = (unsigned char)class;
		heap.next[class] = page;
		heap.end[class] = page + PAGE;
		return of_class(class);
	}
	/* No page is left: a block that is too large is better than none, where libc has none either. */
	while (!heap.opened && !block && ++class < CLASSES)
		block = of_class(class);
	return block;
}

/* What is behind the first `size` bytes of a free block becomes one of its own, if it has a use. */
static void divide(struct block *block, size_t size)
{
	struct size *head = &((struct size *)(void *)block)[-1];
	size_t rest = head->bytes - size;
	struct block *other;

	if (rest < sizeof(*head) + SMALL)
		return;
	head->bytes = size;
	head = (struct size *)(void *)((char *)block + size);
	head->bytes = rest - sizeof(*head);
	other = (struct block *)(void *)(head + 1);
	other->next = heap.freed_larger[bin_of(head->bytes)];
	heap.freed_larger[bin_of(head->bytes)] = other;
}

static void *large(size_t size)
{
	struct size *head;

	size = (size + STEP - 1) & ~(size_t)(STEP - 1);
	for (size_t bin = bin_of(size); bin < BINS; bin++)
		for (struct block **at = &heap.freed_larger[bin]; *at; at = &(*at)->next) {
			struct block *block = *at;

			if (size_of(block) < size)
				continue;
			*at = block->next;
			block->next = NULL;
			divide(block, size);
			return block;
		}
	if ((size_t)(larger() - pages()) < size + sizeof(*head))
		return NULL;
	heap.larger = larger() - size - sizeof(*head);
	head = (struct size *)(void *)heap.larger;
	head->bytes = size;
	return head + 1;
}

void *cfs_malloc(size_t size)
{
	void *block = NULL;

	if (size <= SMALL)
		block = small(size);
	else if (size <= LARGE || (!heap.opened && size <= PTRDIFF_MAX / 2))
		block = large(size);
	if (block)
		return block;
	if (heap.opened)
		return malloc(size);
	heap.full = true;
	errno = ENOMEM;
	return NULL;
}

void *cfs_calloc(size_t count, size_t size)
{
	size_t bytes;
	void *block;

	if (__builtin_mul_overflow(count, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	block = cfs_malloc(bytes);
	if (block)
		memset(block, 0, bytes);
	return block;
}

void cfs_free(void *block)
{
	struct block **freed;
	size_t size;

	if (!block)
		return;
	if (!ours(block)) {
		free(block);
		return;
	}
	size = size_of(block);
	if (!heap.opened)
		memset(block, 0, size);
	freed = is_small(block) ? &heap.freed[class_at(block)] : &heap.freed_larger[bin_of(size)];
	((struct block *)block)->next = *freed;
	*freed = block;
}

void *cfs_realloc(void *old, size_t size)
{
	size_t had;
	void *block;

	if (!old)
		return cfs_malloc(size);
	if (!ours(old))
		return realloc(old, size);
	had = size_of(old);
	if (size <= had && size > had / 2)
		return old;
	block = cfs_malloc(size);
	if (!block)
		return size <= had ? old : NULL; /* a smaller block is never a failure */
	memcpy(block, old, size < had ? size : had);
	cfs_free(old);
	return block;
}

/* A list of free blocks is a chain of pointers all over the heap, which is more in the compressed
 * file than what its blocks are worth: there are new pages. */
static void forget(struct block **freed)
{
	while (*freed) {
		struct block *block = *freed;

		*freed = block->next;
		block->next = NULL;
	}
}

void heap_open(void)
{
	for (size_t class = 0; class < CLASSES; class++)
		forget(&heap.freed[class]);
	for (size_t bin = 0; bin < BINS; bin++)
		forget(&heap.freed_larger[bin]);
	heap.opened = true;
}

bool heap_was_full(void)
{
	return heap.full;
}
