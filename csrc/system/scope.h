/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Cleanup that belongs to the scope which took the resource; errno is kept. */
#ifndef CFS_SCOPE_H
#define CFS_SCOPE_H

#include <errno.h>
#include <unistd.h>

static inline void scope_close(const int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		(void)close(*fd);
		errno = saved;
	}
}

/* int fd scope_fd = -1; closed when the scope ends */
#define scope_fd __attribute__((cleanup(scope_close)))

/* Hands the fd over to the caller: return scope_take(&fd); */
static inline int scope_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#endif
