/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#define _GNU_SOURCE
#include "cfs.h"
#include "scope.h"
#include "sys.h"
#include "sys_mount.h"
#include "sys_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#ifndef MODULE_INIT_COMPRESSED_FILE /* Linux 5.17; not in Debian 12's headers for user space */
#define MODULE_INIT_COMPRESSED_FILE 4
#endif

int cfs_module_load(int fd, const char *arguments, bool compressed)
{
	return sys_finit_module(fd, arguments, compressed ? MODULE_INIT_COMPRESSED_FILE : 0);
}

static int on_memory(int fd)
{
	struct statfs fs;
	int r = sys_fstatfs(fd, &fs);

	if (r < 0)
		return r;
	return fs.f_type == RAMFS_MAGIC || fs.f_type == TMPFS_MAGIC;
}

int cfs_root_is_initramfs(void)
{
	int root scope_fd = sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY);

	return root < 0 ? root : on_memory(root);
}

enum { DEPTH_MAX = 64 };

/* The directories from the root to the one being emptied, each with its name in the one before. */
struct walk {
	struct {
		DIR *directory;
		char name[256];
	} at[DEPTH_MAX];
	size_t depth;
	dev_t device;
};

static int walk_enter(struct walk *walk, int parent, const char *name)
{
	int fd scope_fd = sys_openat(parent, name,
				     O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	r = sys_fstat(fd, &st);
	if (r < 0)
		return r;
	if (walk->depth == 0)
		walk->device = st.st_dev;
	else if (st.st_dev != walk->device) /* a mount: its content is not ours */
		return -EXDEV;
	if (walk->depth == DEPTH_MAX)
		return -ENAMETOOLONG;
	r = sys_fdopendir(fd, &walk->at[walk->depth].directory);
	if (r < 0)
		return r;
	(void)scope_take(&fd);
	(void)snprintf(walk->at[walk->depth].name, sizeof(walk->at[0].name), "%s", name);
	walk->depth++;
	return 0;
}

static void walk_leave(struct walk *walk)
{
	(void)closedir(walk->at[--walk->depth].directory);
	if (walk->depth > 0)
		(void)sys_unlinkat(dirfd(walk->at[walk->depth - 1].directory),
				   walk->at[walk->depth].name, AT_REMOVEDIR);
}

/* One entry of the innermost directory, or its end. */
static void walk_step(struct walk *walk)
{
	DIR *directory = walk->at[walk->depth - 1].directory;
	const struct dirent *entry = readdir(directory);

	if (entry == NULL)
		walk_leave(walk);
	else if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		 sys_unlinkat(dirfd(directory), entry->d_name, 0) == -EISDIR)
		(void)walk_enter(walk, dirfd(directory), entry->d_name);
}

int cfs_initramfs_empty(int root_fd)
{
	struct walk walk = { .depth = 0 };
	int r = on_memory(root_fd);

	if (r < 0)
		return r;
	if (r == 0) /* a tree on a disk is never deleted */
		return -EPERM;
	r = walk_enter(&walk, root_fd, ".");
	if (r < 0)
		return r;
	/* A file that cannot be removed stays: this only frees memory, and no check depends on it. */
	while (walk.depth > 0)
		walk_step(&walk);
	return 0;
}

int cfs_switch_root(const char *new_root, bool leave)
{
	int r = sys_chdir(new_root);

	/* pivot_root does not work on the first root of a machine, which has no mount to move. Else it
	 * puts the old root over the new one, where detaching it frees it. */
	if (r >= 0)
		r = leave ? sys_pivot_root(".", ".") : sys_mount_move(".", "/");
	if (r >= 0)
		r = leave ? sys_umount_detach(".") : sys_chroot(".");
	if (r >= 0)
		r = sys_chdir("/");
	return r;
}

static void pass(int number)
{
	(void)number;
}

int cfs_terminal_pending(int fd)
{
	int pending = 0;
	int r = sys_ioctl(fd, TIOCOUTQ, &pending);

	return r < 0 ? r : pending;
}

int cfs_outlive_initrd(void)
{
	const struct sigaction once = { .sa_handler = pass, .sa_flags = (int)SA_RESETHAND };
	int r = sys_setsid();

	return r < 0 ? r : sys_sigaction(SIGTERM, &once);
}

int cfs_close_from(unsigned int first)
{
	return sys_close_range(first, ~0u);
}

int cfs_reboot(unsigned int command)
{
	return sys_reboot(command);
}
