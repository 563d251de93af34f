/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The system calls of mounting and booting, each returning a value >= 0 or -errno. With sys.h the
 * one place through which the core reaches the kernel, so that a test build can make each fail. */
#ifndef CFS_SYS_MOUNT_H
#define CFS_SYS_MOUNT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct loop_config;

int sys_fsopen(const char *type);
int sys_fsconfig(int context, unsigned int command, const char *key, const char *value);
int sys_fspick(int mount_fd);
int sys_fsmount(int context, uint64_t attributes);
int sys_move_mount(int mount_fd, int directory_fd);
int sys_open_tree(int directory_fd, unsigned int flags);
int sys_mount_setattr(int mount_fd, unsigned int flags, uint64_t set, uint64_t clear);
int sys_mount_propagation(const char *path, unsigned long flags);
int sys_mount_move(const char *source, const char *target);
int sys_umount_detach(const char *path);
int sys_pivot_root(const char *new_root, const char *put_old);
int sys_unshare(int flags);
int sys_setns(int fd, int type);
int sys_chroot(const char *path);
int sys_chdir(const char *path);
int sys_fchdir(int fd);
int sys_loop_get_free(int control_fd);
int sys_loop_configure(int loop_fd, const struct loop_config *config);
int sys_finit_module(int fd, const char *arguments, int flags);
int sys_reboot(unsigned int command);

#endif
