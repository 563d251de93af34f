/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The system calls of the core, each with the name of its call: the result (>= 0) or -errno.
 * Nothing else in the core enters the kernel, so a test build can fail any of them here. Calls that
 * wait in a way worth repeating after a signal are repeated on EINTR.
 */
#ifndef CFS_SYS_H
#define CFS_SYS_H

#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct sockaddr_un;
struct statfs;

int sys_openat(int dir_fd, const char *path, int flags); /* close-on-exec; creates nothing */
int sys_openat2(int dir_fd, const char *path, uint64_t flags, uint64_t resolve); /* the same */
int sys_dup(int fd); /* close-on-exec */
int sys_dup_to(int fd, int place); /* the same, in the place of another one; gives 0 */
int sys_flock(int fd, int operation);
int sys_syncfs(int fd);
int sys_fstat(int fd, struct stat *out);
int sys_fstatfs(int fd, struct statfs *out);
int sys_fdopendir(int fd, DIR **out); /* the stream owns the fd from then on */
int sys_unlinkat(int dir_fd, const char *name, int flags);
int sys_ioctl(int fd, unsigned long request, void *argument);
int sys_socket(int domain, int type); /* close-on-exec, and nobody waits for it */
int sys_connect(int fd, const struct sockaddr_un *address);
int sys_send(int fd, const void *data, size_t length); /* no SIGPIPE where the other end is gone */
int sys_memfd_create(const char *name, unsigned int flags);
int sys_add_seals(int fd, unsigned int seals);
int sys_sendfile(int to, int from, size_t length); /* less than 2 GiB at once */
int sys_read(int fd, void *buffer, size_t length); /* the kernel gives less than 2 GiB at once */
/* Exactly `length` bytes. -ENODATA: the file ends before. */
int sys_pread_exact(int fd, void *buffer, size_t length, uint64_t offset);

#endif
