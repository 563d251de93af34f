/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the harnesses share; to be included first. Each defines LLVMFuzzerTestOneInput(): libFuzzer
 * or replay.c calls it. */
#ifndef FUZZ_H
#define FUZZ_H

#ifndef _GNU_SOURCE /* C++ has it */
#define _GNU_SOURCE
#endif
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C"
#endif
	int
	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Holds in release builds too, and says which promise was broken. */
#define PROMISE(condition)                                                                      \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__,      \
				#condition);                                                    \
			abort();                                                                \
		}                                                                               \
	} while (0)

/* A regular file with that content; the same one each time. */
static inline int fuzz_file(const uint8_t *data, size_t size)
{
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	PROMISE(fd >= 0 && ftruncate(fd, 0) == 0);
	PROMISE(pwrite(fd, data, size, 0) == (ssize_t)size);
	return fd;
}

#endif
