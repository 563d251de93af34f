/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#define _GNU_SOURCE
#include "cfs.h"
#include "scope.h"
#include "sys.h"
#include "sys_mount.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/file.h>

enum {
	/* between asking for a free device and taking it, another process may take it */
	ATTEMPTS = 64,
	BLOCK_SIZE_EROFS = 4096,
};

/* A node may be missing where the kernel has the device: containers have nodes of their own. */
static int no_device(int error)
{
	return error == -ENOENT || error == -ENXIO ? -ENODEV : error;
}

int cfs_loop_attach(int fd, bool writable)
{
	/* No LO_FLAGS_DIRECT_IO: ext4 and btrfs read verity files through the page cache, where
	 * they are verified, and a file system that did not would read past the check. */
	const struct loop_config config = {
		.fd = (uint32_t)fd,
		/* 0: 512, which fits every file system that is to be written */
		.block_size = writable ? 0 : BLOCK_SIZE_EROFS,
		.info = { .lo_flags = LO_FLAGS_AUTOCLEAR | (writable ? 0u : LO_FLAGS_READ_ONLY) },
	};
	int mode = writable ? O_RDWR : O_RDONLY;
	int control scope_fd = sys_openat(AT_FDCWD, "/dev/loop-control", O_RDWR);

	if (writable) {
		/* Two devices over one file would be two file systems over one disk. The lock is that
		 * of the open file, which the device holds. */
		int r = sys_flock(fd, LOCK_EX | LOCK_NB);

		if (r < 0)
			return r == -EWOULDBLOCK ? -EBUSY : r;
	}
	if (control < 0)
		return no_device(control);
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		char device[32];
		int number = sys_loop_get_free(control);
		int r;

		if (number < 0)
			return number;
		(void)snprintf(device, sizeof(device), "/dev/loop%d", number);
		int loop scope_fd = sys_openat(AT_FDCWD, device, mode);
		if (loop < 0)
			return no_device(loop);
		r = sys_loop_configure(loop, &config);
		if (r >= 0)
			return scope_take(&loop);
		if (r != -EBUSY)
			return r;
	}
	return -EBUSY;
}
