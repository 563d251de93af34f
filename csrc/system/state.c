/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What a root file system holds for a sealed root: found without following links, grown, synced;
 * and the devices that belong to one. */
#define _GNU_SOURCE
#include "cfs.h"
#include "scope.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/file.h>
#include <sys/vfs.h>

/* Not in the headers for user space: fs/ext4/ext4.h */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

int cfs_open_beneath(int dir_fd, const char *path, int flags)
{
	return sys_openat2(dir_fd, path, (uint64_t)flags,
			   RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
}

/* The flags that a new file or directory gets from its parent, on one file system or another. The
 * names are those of <linux/fs.h>. All other flags are kept as they are: some of them
 * (FS_EXTENT_FL) say how the inode is stored. */
enum {
	INHERITED = FS_SECRM_FL | FS_UNRM_FL | FS_COMPR_FL | FS_SYNC_FL | FS_IMMUTABLE_FL |
		    FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL | FS_NOCOMP_FL | FS_JOURNAL_DATA_FL |
		    FS_NOTAIL_FL | FS_DIRSYNC_FL | FS_TOPDIR_FL | FS_NOCOW_FL | FS_DAX_FL |
		    FS_PROJINHERIT_FL | FS_CASEFOLD_FL,
};

/* No such request, here or on any file: nothing to inherit either. */
static bool has_none(int error)
{
	return error == -ENOTTY || error == -EOPNOTSUPP || error == -ENOSYS || error == -EINVAL;
}

static int clear_flags(int fd)
{
	int flags = 0;
	int r = sys_ioctl(fd, FS_IOC_GETFLAGS, &flags);

	if (r < 0)
		return has_none(r) ? 0 : r;
	if ((flags & FS_ENCRYPT_FL) != 0) /* with a key of whoever made the parent */
		return -EKEYREJECTED;
	if ((flags & INHERITED) == 0)
		return 0;
	flags &= ~INHERITED;
	r = sys_ioctl(fd, FS_IOC_SETFLAGS, &flags);
	if (r >= 0)
		r = sys_ioctl(fd, FS_IOC_GETFLAGS, &flags);
	if (r < 0)
		return r;
	return (flags & INHERITED) == 0 ? 0 : -EPERM;
}

static int clear_project(int fd)
{
	struct fsxattr attributes = { 0 };
	int r = sys_ioctl(fd, FS_IOC_FSGETXATTR, &attributes);

	if (r < 0)
		return has_none(r) ? 0 : r;
	if (attributes.fsx_projid == 0)
		return 0;
	attributes.fsx_projid = 0;
	return sys_ioctl(fd, FS_IOC_FSSETXATTR, &attributes);
}

int cfs_inherited_clear(int fd)
{
	int r = clear_flags(fd);

	return r < 0 ? r : clear_project(fd);
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

int cfs_btrfs_scan(const char *device)
{
	struct btrfs_ioctl_vol_args member = { 0 };
	size_t length = strlen(device);
	int control scope_fd = -1;

	if (length >= sizeof(member.name))
		return -ENAMETOOLONG;
	memcpy(member.name, device, length);
	control = sys_openat(AT_FDCWD, "/dev/btrfs-control", O_RDONLY);
	return control < 0 ? control : sys_ioctl(control, BTRFS_IOC_SCAN_DEV, &member);
}

int cfs_filesystem_sync(int fd)
{
	return sys_syncfs(fd);
}

int cfs_file_lock(int fd)
{
	return sys_flock(fd, LOCK_EX | LOCK_NB);
}
