/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A question to a program that listens at a path. */
#include "cfs.h"
#include "scope.h"
#include "sys.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int cfs_ask(const char *path, const uint8_t *question, size_t size)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = strlen(path);
	int scope_fd fd = -1;
	int result;

	/* An empty one, or one that begins with NUL, is no path to the kernel. */
	if (length == 0 || length >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, length);
	fd = sys_socket(AF_UNIX, SOCK_STREAM);
	if (fd < 0)
		return fd;
	result = sys_connect(fd, &address);
	if (result < 0)
		return result;
	/* All at once, or not: a new socket has room for more than a page. */
	result = sys_send(fd, question, size);
	if (result < 0)
		return result;
	return (size_t)result == size ? scope_take(&fd) : -EMSGSIZE;
}
