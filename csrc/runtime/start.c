/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What a static program of musl lacks; glibc does both.
 *
 * The entry point: musl before 1.2.4 does not know packed relocations (DT_RELR), which take a
 * fiftieth of the room of others. They are applied here, before libc's own entry point runs:
 * nothing is relocated yet, no variable of libc is set, there is no stack protector. Then their
 * size is 0, so that a newer musl does not apply them again.
 *
 * RELRO: what was relocated and is constant from then on is made read-only.
 */
#include "start.h"

#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#ifdef __GLIBC__

int start_protect(void)
{
	return 0;
}

#else

#ifndef DT_RELR
#define DT_RELRSZ 35
#define DT_RELR 36
#endif

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern Elf64_Dyn _DYNAMIC[] __attribute__((visibility("hidden")));

__attribute__((used)) static void relocate(void)
{
	enum { BITS = 63 };
	const uintptr_t base = (uintptr_t)__ehdr_start;
	const uintptr_t *entry = NULL;
	uintptr_t *place = NULL;
	size_t size = 0;

	for (Elf64_Dyn *tag = _DYNAMIC; tag->d_tag != DT_NULL; tag++) {
		if (tag->d_tag == DT_RELR)
			entry = (const uintptr_t *)(base + tag->d_un.d_ptr);
		if (tag->d_tag == DT_RELRSZ) {
			size = tag->d_un.d_val;
			tag->d_un.d_val = 0;
		}
	}
	/* An even entry is the place of one; an odd one says which of the next 63 words are others. */
	for (; entry && size >= sizeof(*entry); entry++, size -= sizeof(*entry)) {
		if (!(*entry & 1)) {
			place = (uintptr_t *)(base + *entry);
			*place++ += base;
			continue;
		}
		for (uintptr_t bits = *entry >> 1, *at = place; bits; bits >>= 1, at++)
			if (bits & 1)
				*at += base;
		place += BITS;
	}
}

#if defined(__x86_64__)
__asm__(".text\n"
	".globl cfs_start\n"
	".type cfs_start, @function\n"
	"cfs_start:\n"
	"	endbr64\n"
	"	xor %ebp, %ebp\n"
	"	push %rdx\n" /* and twice, for the alignment of the stack */
	"	push %rdx\n"
	"	call relocate\n"
	"	pop %rdx\n"
	"	pop %rdx\n"
	"	jmp _start\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl cfs_start\n"
	".type cfs_start, %function\n"
	"cfs_start:\n"
	"	mov x29, #0\n"
	"	bl relocate\n"
	"	b _start\n");
#else
#error "no entry point for this machine"
#endif

/* Its program header is the room for the one of the snapshot's window (frozen/image.py). */
__attribute__((section(".note.cfs"), used, retain, aligned(4))) static const struct {
	uint32_t name_size, size, type;
	char name[4];
} note = {sizeof(note.name), 0, 0, "cfs"};

int start_protect(void)
{
	const char *const base = __ehdr_start;
	const Elf64_Ehdr *const header = (const Elf64_Ehdr *)(const void *)base;
	const Elf64_Phdr *segment = (const Elf64_Phdr *)(const void *)(base + header->e_phoff);
	const uintptr_t page = getauxval(AT_PAGESZ);

	for (unsigned int left = header->e_phnum; left; left--, segment++) {
		uintptr_t from = (uintptr_t)base + segment->p_vaddr;
		uintptr_t to = (from + segment->p_memsz) & -page;

		from &= -page;
		if (segment->p_type != PT_GNU_RELRO || from == to)
			continue;
		if (mprotect((void *)from, to - from, PROT_READ) < 0)
			return -errno;
	}
	return 0;
}

#endif
