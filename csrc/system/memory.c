/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#define _GNU_SOURCE
#include "cfs.h"
#include "scope.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif

enum { AT_ONCE = 64 << 20 };

int cfs_memory_copy(int fd)
{
	static const char name[] = "composefs image";
	int copy scope_fd = -1;
	int sent, error;

	copy = sys_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	if (copy == -EINVAL) /* an older kernel, which does not mind a file that could be run */
		copy = sys_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (copy < 0)
		return copy;
	do {
		sent = sys_sendfile(copy, fd, AT_ONCE);
	} while (sent > 0);
	if (sent < 0)
		return sent;
	error = sys_add_seals(copy, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	return error < 0 ? error : scope_take(&copy);
}
