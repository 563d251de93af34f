/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * LD_PRELOAD: SIGKILL at the KILL_ATth call of this process that changes a file system or waits for
 * its disk, of all threads together, before it is made.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_int calls;

static void count(void)
{
	const char *at = getenv("KILL_AT");

	if (at && atomic_fetch_add(&calls, 1) + 1 == atoi(at))
		kill(getpid(), SIGKILL);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define COUNTED(type, name, parameters, ...)         \
	type name parameters                         \
	{                                            \
		count();                             \
		return REAL(name)(__VA_ARGS__);      \
	}

COUNTED(int, mkdir, (const char *path, mode_t mode), path, mode)
COUNTED(int, mkdirat, (int fd, const char *path, mode_t mode), fd, path, mode)
COUNTED(int, link, (const char *from, const char *to), from, to)
COUNTED(int, linkat, (int fd, const char *from, int other, const char *to, int flags), fd, from,
	other, to, flags)
COUNTED(int, symlink, (const char *target, const char *path), target, path)
COUNTED(int, symlinkat, (const char *target, int fd, const char *path), target, fd, path)
COUNTED(int, rename, (const char *from, const char *to), from, to)
COUNTED(int, unlink, (const char *path), path)
COUNTED(int, unlinkat, (int fd, const char *path, int flags), fd, path, flags)
COUNTED(int, fsync, (int fd), fd)
COUNTED(int, syncfs, (int fd), fd)
COUNTED(ssize_t, write, (int fd, const void *data, size_t size), fd, data, size)
COUNTED(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), fd, data, size, at)
COUNTED(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), fd, data, size, at)

/* Those that make a file. */
#define OPENED(name, parameters, flags, ...)                       \
	int name parameters                                        \
	{                                                          \
		va_list more;                                      \
		mode_t mode;                                       \
                                                                   \
		va_start(more, flags);                             \
		mode = (mode_t)va_arg(more, unsigned);             \
		va_end(more);                                      \
		if (flags & (O_CREAT | __O_TMPFILE))               \
			count();                                   \
		return REAL(name)(__VA_ARGS__, mode);              \
	}

OPENED(open, (const char *path, int flags, ...), flags, path, flags)
OPENED(open64, (const char *path, int flags, ...), flags, path, flags)
OPENED(openat, (int fd, const char *path, int flags, ...), flags, fd, path, flags)
OPENED(openat64, (int fd, const char *path, int flags, ...), flags, fd, path, flags)
