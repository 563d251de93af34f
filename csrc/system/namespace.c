/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#define _GNU_SOURCE
#include "cfs.h"
#include "scope.h"
#include "sys.h"
#include "sys_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>

static int open_here(int *mount_ns, int *root, int *cwd)
{
	*mount_ns = sys_openat(AT_FDCWD, "/proc/self/ns/mnt", O_RDONLY);
	if (*mount_ns < 0)
		return *mount_ns;
	*root = sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY);
	if (*root < 0)
		return *root;
	*cwd = sys_openat(AT_FDCWD, ".", O_PATH | O_DIRECTORY);
	return *cwd;
}

static int into(int root, int cwd)
{
	int r = sys_fchdir(root);

	if (r >= 0)
		r = sys_chroot(".");
	if (r >= 0)
		r = sys_fchdir(cwd);
	return r;
}

static int back_to(int mount_ns, int root, int cwd)
{
	int r = sys_setns(mount_ns, CLONE_NEWNS);

	/* setns puts root and working directory at the root of the namespace: a caller in a
	 * chroot must not be let out of it */
	return r < 0 ? r : into(root, cwd);
}

/* What is attached in a shared mount of the copy would show up in the original too. */
static int make_private(void)
{
	return sys_mount_propagation("/", MS_REC | MS_PRIVATE);
}

/* The same from a chroot, where "/" is a directory of some mount (-EINVAL): at the root of the
 * namespace, where setns leads, and back into the chroot. */
static int make_private_from_chroot(void)
{
	int mount_ns scope_fd = -1;
	int root scope_fd = -1;
	int cwd scope_fd = -1;
	int back, r;

	r = open_here(&mount_ns, &root, &cwd);
	if (r < 0)
		return r;
	r = sys_setns(mount_ns, CLONE_NEWNS);
	if (r < 0)
		return r;
	r = make_private();
	back = into(root, cwd);
	return r < 0 ? r : back;
}

int cfs_namespace_enter(struct cfs_namespace *saved)
{
	int mount_ns scope_fd = -1;
	int root scope_fd = -1;
	int cwd scope_fd = -1;
	int r;

	r = open_here(&mount_ns, &root, &cwd);
	if (r < 0)
		return r;
	r = sys_unshare(CLONE_NEWNS);
	if (r < 0)
		return r;
	r = make_private();
	if (r == -EINVAL)
		r = make_private_from_chroot();
	if (r < 0) {
		(void)back_to(mount_ns, root, cwd);
		return r;
	}
	*saved = (struct cfs_namespace){
		.mount_ns = scope_take(&mount_ns),
		.root = scope_take(&root),
		.cwd = scope_take(&cwd),
	};
	return 0;
}

int cfs_namespace_leave(struct cfs_namespace *saved)
{
	int mount_ns scope_fd = saved->mount_ns;
	int root scope_fd = saved->root;
	int cwd scope_fd = saved->cwd;

	*saved = (struct cfs_namespace){ .mount_ns = -1, .root = -1, .cwd = -1 };
	return back_to(mount_ns, root, cwd);
}
