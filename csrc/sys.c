/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#define _GNU_SOURCE
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int sys_openat2(int dir_fd, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = resolve,
	};
	/* EAGAIN: a rename raced with the walk of RESOLVE_BENEATH. Who renames without end must not
	 * hold us. */
	int races = 16;
	long fd;

	do {
		fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
	} while (fd < 0 && (errno == EINTR || (errno == EAGAIN && races-- > 0)));
	return fd < 0 ? -errno : (int)fd;
}

int sys_close(int fd)
{
	/* After EINTR the descriptor is gone on Linux: a second close could hit another's. */
	return close(fd) < 0 ? -errno : 0;
}

int sys_dup(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return copy < 0 ? -errno : copy;
}

int sys_fstat(int fd, struct stat *out)
{
	return fstat(fd, out) < 0 ? -errno : 0;
}

int sys_ioctl(int fd, unsigned long request, void *argument)
{
	int result = ioctl(fd, request, argument);

	/* Not repeated: for some requests EINTR is an answer. */
	return result < 0 ? -errno : result;
}

int sys_pread_exact(int fd, void *buffer, size_t length, uint64_t offset)
{
	uint8_t *to = buffer;
	ssize_t got;

	if (offset > INT64_MAX || length > INT64_MAX - offset)
		return -EOVERFLOW;
	while (length > 0) {
		got = pread(fd, to, length, (off_t)offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -ENODATA;
		to += got;
		offset += (uint64_t)got;
		length -= (size_t)got;
	}
	return 0;
}

void cfs_close_cleanup(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)sys_close(*fd);
	errno = saved;
}
