/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#define _GNU_SOURCE
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

static int result(long value)
{
	return value < 0 ? -errno : (int)value;
}

int sys_openat(int dir_fd, const char *path, int flags)
{
	int fd;

	do {
		fd = openat(dir_fd, path, flags | O_CLOEXEC);
	} while (fd < 0 && errno == EINTR);
	return result(fd);
}

int sys_openat2(int dir_fd, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = resolve,
	};
	/* EAGAIN: a rename raced with the walk of RESOLVE_BENEATH. A process that renames without
	 * end must not stop the boot. */
	int races = 16;
	long fd;

	do {
		fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
	} while (fd < 0 && (errno == EINTR || (errno == EAGAIN && races-- > 0)));
	return result(fd);
}

int sys_dup(int fd)
{
	return result(fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

int sys_dup_to(int fd, int place)
{
	int r = result(dup3(fd, place, O_CLOEXEC));

	return r < 0 ? r : 0;
}

int sys_flock(int fd, int operation)
{
	return result(flock(fd, operation));
}

int sys_syncfs(int fd)
{
	return result(syncfs(fd));
}

int sys_fstat(int fd, struct stat *out)
{
	return result(fstat(fd, out));
}

int sys_fstatfs(int fd, struct statfs *out)
{
	int error;

	do {
		error = fstatfs(fd, out);
	} while (error < 0 && errno == EINTR);
	return result(error);
}

int sys_fdopendir(int fd, DIR **out)
{
	DIR *directory = fdopendir(fd);

	if (directory == NULL)
		return -errno;
	*out = directory;
	return 0;
}

int sys_unlinkat(int dir_fd, const char *name, int flags)
{
	return result(unlinkat(dir_fd, name, flags));
}

int sys_ioctl(int fd, unsigned long request, void *argument)
{
	/* Not repeated: for some requests EINTR is an answer. By number: musl's function takes the
	 * request as an int. */
	return result(syscall(SYS_ioctl, fd, request, argument));
}

int sys_socket(int domain, int type)
{
	return result(socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

int sys_connect(int fd, const struct sockaddr_un *address)
{
	return result(connect(fd, (const struct sockaddr *)address, sizeof(*address)));
}

int sys_send(int fd, const void *data, size_t length)
{
	return result(send(fd, data, length, MSG_NOSIGNAL));
}

int sys_memfd_create(const char *name, unsigned int flags)
{
	return result(memfd_create(name, flags));
}

int sys_add_seals(int fd, unsigned int seals)
{
	return result(fcntl(fd, F_ADD_SEALS, seals));
}

int sys_sendfile(int to, int from, size_t length)
{
	ssize_t sent;

	do {
		sent = sendfile(to, from, NULL, length);
	} while (sent < 0 && errno == EINTR);
	return result(sent);
}

int sys_read(int fd, void *buffer, size_t length)
{
	ssize_t got;

	do {
		got = read(fd, buffer, length);
	} while (got < 0 && errno == EINTR);
	return result(got);
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
