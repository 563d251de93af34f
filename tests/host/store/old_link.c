/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* LD_PRELOAD: a kernel before 6.10, which gives an open file a name for root alone (linkat(2)). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

typedef int link_at(int, const char *, int, const char *, int);

int linkat(int from, const char *path, int to, const char *name, int flags)
{
	link_at *real;

	if (flags & AT_EMPTY_PATH) {
		errno = ENOENT;
		return -1;
	}
	*(void **)&real = dlsym(RTLD_NEXT, "linkat");
	return real(from, path, to, name, flags);
}
