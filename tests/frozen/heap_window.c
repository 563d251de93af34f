/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What window.ld gives to heap.c, for a test: memory of 16 pages. */
__asm__(".bss\n"
	".globl cfs_heap_start, cfs_heap_end\n"
	".balign 4096\n"
	"cfs_heap_start: .zero 65536\n"
	"cfs_heap_end: .zero 16\n"
	".text\n");
