/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The system calls of the core, each with the name of its call: the result (>= 0) or -errno.
 * Nothing else in the core enters the kernel, so a test build can fail any of them here. Calls that
 * wait in a way worth repeating after a signal are repeated on EINTR.
 */
#ifndef CFS_SYS_H
#define CFS_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

int sys_openat2(int dir_fd, const char *path, uint64_t flags, uint64_t resolve);
int sys_close(int fd);
int sys_dup(int fd); /* close-on-exec */
int sys_fstat(int fd, struct stat *out);
int sys_ioctl(int fd, unsigned long request, void *argument);
/* Exactly `length` bytes. -ENODATA: the file ends before. */
int sys_pread_exact(int fd, void *buffer, size_t length, uint64_t offset);

/* For a variable that owns a fd: `_cleanup_close_ int fd = -1;`. Keeps errno. */
void cfs_close_cleanup(int *fd);
#define _cleanup_close_ __attribute__((cleanup(cfs_close_cleanup)))

/* The fd, no longer owned by the variable. */
static inline int cfs_take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#endif
