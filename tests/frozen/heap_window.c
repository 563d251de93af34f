/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What window.ld gives to heap.c, for a test: memory of HEAP_PAGES pages, and TAIL_PAGES behind
 * them. */
#define TEXT(number) #number
#define SPACE(pages) ".zero 4096 * " TEXT(pages) "\n"
__asm__(".bss\n"
	".globl cfs_heap_start, cfs_heap_end, cfs_window_end\n"
	".balign 4096\n"
	"cfs_heap_start: " SPACE(HEAP_PAGES)
	"cfs_heap_end: " SPACE(TAIL_PAGES)
	"cfs_window_end: .zero 16\n"
	".text\n");
