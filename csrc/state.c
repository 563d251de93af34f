/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What a root file system holds for a sealed root: found without following links, grown, synced. */
#define _GNU_SOURCE
#include "cfs.h"
#include "sys.h"

#include <errno.h>
#include <linux/btrfs.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/vfs.h>

/* Not in the headers for user space: fs/ext4/ext4.h */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

int cfs_open_beneath(int dir_fd, const char *path, int flags)
{
	return sys_openat2(dir_fd, path, (uint64_t)flags,
			   RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

int cfs_filesystem_grow(int fd, uint64_t size)
{
	struct btrfs_ioctl_vol_args whole = { .name = "max" };
	struct statfs fs;
	uint64_t blocks;
	int r;

	r = sys_fstatfs(fd, &fs);
	if (r < 0)
		return r;
	if (fs.f_type == BTRFS_SUPER_MAGIC)
		return sys_ioctl(fd, BTRFS_IOC_RESIZE, &whole);
	if (fs.f_type != EXT4_SUPER_MAGIC || fs.f_bsize <= 0)
		return -EOPNOTSUPP;
	blocks = size / (uint64_t)fs.f_bsize;
	return sys_ioctl(fd, EXT4_IOC_RESIZE_FS, &blocks);
}

int cfs_filesystem_sync(int fd)
{
	return sys_syncfs(fd);
}
