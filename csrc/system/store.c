/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * An object store: its layout, and the one name in it that a digest has.
 *
 * An attacker who can write the disk can plant links anywhere. So every walk stays beneath the store,
 * directories on the way are never links, and only the image's own name may be one (composefs-rs
 * links images/<hex> to the object). Names that are not made of the digest, such as images/refs/,
 * are never tried.
 */
#define _GNU_SOURCE
#include "cfs.h"
#include "scope.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const uint64_t BENEATH = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
static const uint64_t DIRECTORY = O_RDONLY | O_DIRECTORY;

/* Is there something of that name, if only a dangling link? 1, 0 or -errno. */
static int is_there(int dir_fd, const char *name)
{
	int fd scope_fd = sys_openat2(dir_fd, name, O_PATH | O_NOFOLLOW, BENEATH);

	if (fd == -ENOENT)
		return 0;
	return fd < 0 ? fd : 1;
}

/* An ostree repository, and no composefs-rs one: they share `objects`. */
static int is_ostree(int root)
{
	int result = is_there(root, "config");

	return result == 1 ? is_there(root, "refs") : result;
}

int cfs_store_open(int dir_fd, const char *path, struct cfs_store *out)
{
	int root scope_fd = -1;
	int objects scope_fd = -1;
	enum cfs_layout layout;
	int result;

	root = sys_openat2(dir_fd, path, DIRECTORY, 0);
	if (root < 0)
		return root;

	objects = sys_openat2(root, "objects", DIRECTORY, BENEATH | RESOLVE_NO_SYMLINKS);
	if (objects == -ENOENT) {
		layout = CFS_LAYOUT_OBJECTS;
		objects = sys_dup(root);
	} else if (objects >= 0) {
		result = is_ostree(root);
		if (result < 0)
			return result;
		layout = result ? CFS_LAYOUT_OSTREE : CFS_LAYOUT_REPOSITORY;
	}
	if (objects < 0)
		return objects;

	*out = (struct cfs_store){
		.root = scope_take(&root),
		.objects = scope_take(&objects),
		.layout = layout,
	};
	return 0;
}

/* Why opening `name` failed: the errno of a socket or a device, which its driver chose, would say
 * nothing of that. */
static int why_not(int dir_fd, const char *name, uint64_t resolve, int error)
{
	int fd scope_fd = sys_openat2(dir_fd, name, O_PATH, resolve);
	struct stat status;

	if (fd >= 0 && sys_fstat(fd, &status) >= 0 && !S_ISREG(status.st_mode))
		return -EINVAL;
	return error;
}

/* A regular file at the end of `name`. One open, which neither waits for a FIFO's writer nor takes
 * a terminal. */
static int open_regular(int dir_fd, const char *name, uint64_t resolve)
{
	int fd scope_fd = -1;
	struct stat status;
	int error;

	fd = sys_openat2(dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, resolve);
	if (fd < 0)
		return why_not(dir_fd, name, resolve, fd);
	error = sys_fstat(fd, &status);
	if (error < 0)
		return error;
	return S_ISREG(status.st_mode) ? scope_take(&fd) : -EINVAL;
}

/* `name` in its directory, of which no part may be a link. -ENOENT: absent; -EBADF: dangling. */
static int open_name(const struct cfs_store *store, const char *name)
{
	int parent scope_fd = -1;
	char directory[CFS_IMAGE_NAME_MAX];
	const char *slash = strrchr(name, '/');
	int fd, result;

	memcpy(directory, name, (size_t)(slash - name));
	directory[slash - name] = '\0';
	parent = sys_openat2(store->root, directory, O_PATH | O_DIRECTORY,
			     BENEATH | RESOLVE_NO_SYMLINKS);
	if (parent < 0)
		return parent;

	/* From the root, since the link of images/<hex> leads to ../objects/. */
	fd = open_regular(store->root, name, BENEATH);
	if (fd != -ENOENT)
		return fd;
	result = is_there(parent, slash + 1);
	if (result < 0)
		return result;
	return result ? -EBADF : -ENOENT;
}

int cfs_store_open_image(const struct cfs_store *store, const struct cfs_digest *digest,
			 char name[CFS_IMAGE_NAME_MAX])
{
	const char *top = store->layout == CFS_LAYOUT_OBJECTS ? "" : "objects/";
	const char *end = store->layout == CFS_LAYOUT_OSTREE ? ".file" : "";
	char hex[CFS_DIGEST_HEX_MAX];
	int error, fd;

	name[0] = '\0';
	error = cfs_digest_format(digest, hex);
	if (error < 0)
		return error;

	if (store->layout == CFS_LAYOUT_REPOSITORY) {
		(void)snprintf(name, CFS_IMAGE_NAME_MAX, "images/%s", hex);
		fd = open_name(store, name);
		/* Any other fault of the first name counts: a broken one is no absent one. */
		if (fd != -ENOENT)
			return fd;
	}
	(void)snprintf(name, CFS_IMAGE_NAME_MAX, "%s%.2s/%s%s", top, hex, hex + 2, end);
	return open_name(store, name);
}

int cfs_image_open(int dir_fd, const char *path)
{
	return open_regular(dir_fd, path, 0);
}
