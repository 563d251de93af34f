/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#define _GNU_SOURCE
#include "sys_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

/* By number: musl has no functions for these, and the kernel's header, which has all names, does
 * not go together with <sys/mount.h> of glibc before 2.37. */
static int result(long value)
{
	return value < 0 ? -errno : (int)value;
}

int sys_fsopen(const char *type)
{
	return result(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
}

int sys_fsconfig(int context, unsigned int command, const char *key, const char *value)
{
	return result(syscall(SYS_fsconfig, context, command, key, value, 0));
}

int sys_fspick(int mount_fd)
{
	return result(syscall(SYS_fspick, mount_fd, "",
			      FSPICK_CLOEXEC | FSPICK_EMPTY_PATH | FSPICK_NO_AUTOMOUNT));
}

int sys_fsmount(int context, uint64_t attributes)
{
	return result(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, (unsigned int)attributes));
}

int sys_move_mount(int mount_fd, int directory_fd)
{
	return result(syscall(SYS_move_mount, mount_fd, "", directory_fd, "",
			      MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
}

int sys_open_tree(int directory_fd, unsigned int flags)
{
	return result(syscall(SYS_open_tree, directory_fd, "", flags));
}

int sys_mount_setattr(int mount_fd, unsigned int flags, uint64_t set, uint64_t clear)
{
	struct mount_attr attr = { .attr_set = set, .attr_clr = clear };

	return result(syscall(SYS_mount_setattr, mount_fd, "", flags, &attr, sizeof(attr)));
}

int sys_mount_propagation(const char *path, unsigned long flags)
{
	return result(syscall(SYS_mount, NULL, path, NULL, flags, NULL));
}

int sys_mount_move(const char *source, const char *target)
{
	return result(syscall(SYS_mount, source, target, NULL, MS_MOVE, NULL));
}

int sys_pivot_root(const char *new_root, const char *put_old)
{
	return result(syscall(SYS_pivot_root, new_root, put_old));
}

int sys_umount_detach(const char *path)
{
	enum { DETACH = 2 }; /* MNT_DETACH, which only libc's <sys/mount.h> has */

	return result(syscall(SYS_umount2, path, DETACH));
}

int sys_unshare(int flags)
{
	return result(unshare(flags));
}

int sys_setns(int fd, int type)
{
	return result(setns(fd, type));
}

int sys_chroot(const char *path)
{
	return result(chroot(path));
}

int sys_chdir(const char *path)
{
	return result(chdir(path));
}

int sys_fchdir(int fd)
{
	return result(fchdir(fd));
}

int sys_loop_get_free(int control_fd)
{
	return result(ioctl(control_fd, LOOP_CTL_GET_FREE));
}

int sys_loop_configure(int loop_fd, const struct loop_config *config)
{
	return result(ioctl(loop_fd, LOOP_CONFIGURE, config));
}

int sys_finit_module(int fd, const char *arguments, int flags)
{
	return result(syscall(SYS_finit_module, fd, arguments, flags));
}

int sys_reboot(unsigned int command)
{
	return result(reboot((int)command));
}
