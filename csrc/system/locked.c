/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * A mount for somebody who is not trusted. Who has a user namespace may attach a detached mount in a
 * mount namespace of it, and is the one there who may take nodev and nosuid away again, also from
 * one that root has made. The kernel locks these where it copies a mount namespace for a user
 * namespace with less rights. So a child makes such a copy, and the mount is cloned out of that.
 * The clone keeps the child's user namespace, one of its maker's, as long as it is attached nowhere.
 */
#define _GNU_SOURCE
#include "cfs.h"
#include "scope.h"
#include "sys.h"
#include "sys_mount.h"
#include "sys_process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/wait.h>

/* unshare leads the working directory into the copy: it is on the mount's own copy then. */
static int clone_to(int directory_fd, int place)
{
	int tree, r;

	r = sys_fchdir(directory_fd);
	if (r >= 0)
		r = sys_unshare(CLONE_NEWUSER | CLONE_NEWNS);
	if (r < 0)
		return r;
	tree = sys_open_tree(AT_FDCWD, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (tree < 0)
		return tree;
	r = sys_dup_to(tree, place);
	scope_close(&tree); /* the parent has the same descriptors */
	return r;
}

int cfs_mount_clone_locked(int directory_fd)
{
	int place scope_fd = sys_dup(directory_fd);
	int status, r;
	pid_t pid;

	if (place < 0)
		return place;
	pid = sys_fork_with_files();
	if (pid < 0)
		return pid;
	if (pid == 0)
		sys_exit(-clone_to(directory_fd, place) & 0xff); /* a number of errno has 8 bits */
	r = sys_wait(pid, &status);
	if (r < 0)
		return r;
	if (!WIFEXITED(status))
		return -EPROTO;
	return WEXITSTATUS(status) != 0 ? -WEXITSTATUS(status) : scope_take(&place);
}
