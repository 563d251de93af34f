/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * File systems by fsopen, fsconfig, fsmount (Linux 5.2).
 *
 * What a kernel can do is found out by asking it, never by its version: enterprise kernels carry
 * features of later ones.
 */
#define _GNU_SOURCE
#include "cfs.h"
#include "scope.h"
#include "sys.h"
#include "sys_mount.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>

enum { FD_PATH_MAX = 32 };

static void fd_path(int fd, char path[FD_PATH_MAX])
{
	(void)snprintf(path, FD_PATH_MAX, "/proc/self/fd/%d", fd);
}

static void log_append(struct cfs_log *log, const char *text, size_t length)
{
	size_t used = strnlen(log->text, sizeof(log->text) - 1);
	size_t room = sizeof(log->text) - used;
	const char *separator = used > 0 ? "; " : "";

	(void)snprintf(log->text + used, room, "%s%.*s", separator, (int)length, text);
}

/* The messages wait in the context, one a read, each beginning with its level ("e ", "w ", "i ") */
static void log_read(int context, struct cfs_log *log)
{
	char line[256];
	int n;

	while ((n = sys_read(context, line, sizeof(line))) > 2) {
		size_t length = (size_t)n;

		while (length > 2 && line[length - 1] == '\n')
			length--;
		log_append(log, line + 2, length - 2);
	}
}

static int set_option(int context, const char *key, const char *value, struct cfs_log *log)
{
	unsigned int command = value != NULL ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
	int r = sys_fsconfig(context, command, key, value);

	if (r < 0) {
		char text[160];

		(void)snprintf(text, sizeof(text), "option %s%s%s", key, value != NULL ? "=" : "",
			       value != NULL ? value : "");
		log_append(log, text, strlen(text));
		log_read(context, log);
	}
	return r;
}

static int set_options(int context, const struct cfs_option *options, size_t count,
		       struct cfs_log *log)
{
	for (size_t i = 0; i < count; i++) {
		int r = set_option(context, options[i].key, options[i].value, log);

		if (r < 0)
			return r;
	}
	return 0;
}

static int create(int context, uint64_t attributes, struct cfs_log *log)
{
	int r = sys_fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL);

	if (r < 0) {
		log_read(context, log);
		return r;
	}
	return sys_fsmount(context, attributes);
}

int cfs_fs_mount(const char *type, const struct cfs_option *options, size_t count,
		 uint64_t attributes, struct cfs_log *log)
{
	int context scope_fd = sys_fsopen(type);
	int r;

	log->text[0] = '\0';
	if (context < 0)
		return context;
	r = set_options(context, options, count, log);
	return r < 0 ? r : create(context, attributes, log);
}

/* `source` is a path below /proc/self/fd: the very file or device, whatever its name is by now */
static int erofs_from(int fd, bool noacl, struct cfs_log *log)
{
	char source[FD_PATH_MAX];
	const struct cfs_option options[] = {
		{ "ro", NULL },
		{ "source", source },
		{ "noacl", NULL },
	};

	fd_path(fd, source);
	return cfs_fs_mount("erofs", options, noacl ? 3 : 2, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV,
			    log);
}

int cfs_erofs_mount(int image_fd, bool noacl, bool prefer_loop, bool *used_loop,
		    struct cfs_log *log)
{
	int r = -ENOTBLK;

	*used_loop = false;
	log->text[0] = '\0';
	if (!prefer_loop)
		r = erofs_from(image_fd, noacl, log);
	if (r != -ENOTBLK)
		return r;
	/* before Linux 6.12, or without CONFIG_EROFS_FS_BACKED_BY_FILE: a block device it must be */
	int loop scope_fd = cfs_loop_attach(image_fd, false);
	if (loop == -ENODEV && prefer_loop)
		return erofs_from(image_fd, noacl, log);
	if (loop == -ENODEV)
		return -ENOTBLK;
	if (loop < 0) {
		static const char text[] = "EROFS needs a block device here, and the loop device failed";

		log_append(log, text, sizeof(text) - 1);
		return loop;
	}
	*used_loop = true;
	return erofs_from(loop, noacl, log);
}

/* A file system of the old kind (overlayfs before 6.5) takes any key until it is created; one
 * with a table of its own refuses a key that cannot exist. */
static bool takes_any_key(int context)
{
	struct cfs_log ignored;
	bool any = sys_fsconfig(context, FSCONFIG_SET_STRING, "cfs-no-such-key", "1") >= 0;

	ignored.text[0] = '\0';
	log_read(context, &ignored);
	return any;
}

static bool has_old_parameters(void)
{
	int context scope_fd = sys_fsopen("overlay");

	return takes_any_key(context); /* -errno is no context: no */
}

int cfs_overlay_mount(const struct cfs_overlay *overlay, uint64_t attributes, struct cfs_log *log)
{
	char lower[FD_PATH_MAX];
	char objects[FD_PATH_MAX];
	char upper[FD_PATH_MAX];
	char work[FD_PATH_MAX];
	char layers[2 * FD_PATH_MAX + 2];
	struct cfs_option options[9];
	bool layered = overlay->objects >= 0;
	bool trusted = layered && !overlay->strict;
	size_t count = 0;
	size_t layers_at;
	int r;

	fd_path(overlay->lower, lower);
	fd_path(overlay->objects, objects);
	options[count++] = (struct cfs_option){ "source", overlay->source };
	/* defaults of these are kernel configuration and module parameters */
	options[count++] = (struct cfs_option){ "metacopy", trusted ? "on" : "off" };
	options[count++] = (struct cfs_option){ "redirect_dir", trusted ? "on" : "nofollow" };
	if (overlay->require_verity)
		options[count++] = (struct cfs_option){ "verity", "require" };
	if (overlay->upper >= 0) {
		fd_path(overlay->upper, upper);
		fd_path(overlay->work, work);
		options[count++] = (struct cfs_option){
			"upperdir", overlay->upper_path != NULL ? overlay->upper_path : upper
		};
		options[count++] = (struct cfs_option){
			"workdir", overlay->work_path != NULL ? overlay->work_path : work
		};
	}
	if (!layered) {
		/* For its side effect: only with an index is an upper directory in use refused. The
		 * index itself goes, since an overlay as lower layer has no file handles. */
		options[count++] = (struct cfs_option){ "index", "on" };
		options[count++] = (struct cfs_option){ "lowerdir", lower };
		return cfs_fs_mount("overlay", options, count, attributes, log);
	}
	/* an index would tie the upper directory to the very layers that it was first used with */
	if (overlay->strict)
		options[count++] = (struct cfs_option){ "index", "off" };
	layers_at = count;
	/* in this order: the reverse is EINVAL */
	options[count++] = (struct cfs_option){ "lowerdir+", lower };
	options[count++] = (struct cfs_option){ "datadir+", objects };
	r = cfs_fs_mount("overlay", options, count, attributes, log);
	if (r != -EINVAL)
		return r;

	/* Linux 6.5 and 6.6 refuse the key lowerdir+, older ones with backports the mount. Only
	 * another spelling of the same layers is tried: `a:b` instead of `a::b` would show the
	 * objects directory in the root. A kernel that refused for another reason does so again,
	 * and its message is the one that is kept. */
	if (strstr(log->text, "option lowerdir+") == NULL && !has_old_parameters())
		return r;
	(void)snprintf(layers, sizeof(layers), "%s::%s", lower, objects);
	options[layers_at] = (struct cfs_option){ "lowerdir", layers };
	return cfs_fs_mount("overlay", options, layers_at + 1, attributes, log);
}

int cfs_mount_attach(int mount_fd, int directory_fd)
{
	return sys_move_mount(mount_fd, directory_fd);
}

int cfs_mount_clone(int directory_fd, bool recursive)
{
	return sys_open_tree(directory_fd, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH |
						   (recursive ? AT_RECURSIVE : 0u));
}

int cfs_mount_set(int mount_fd, uint64_t set, uint64_t clear, bool recursive)
{
	return sys_mount_setattr(mount_fd, AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0u), set,
				 clear);
}

int cfs_mount_remount(int mount_fd, bool writable, struct cfs_log *log)
{
	int context scope_fd = sys_fspick(mount_fd);
	int r;

	log->text[0] = '\0';
	if (context < 0)
		return context;
	r = set_option(context, writable ? "rw" : "ro", NULL, log);
	if (r < 0)
		return r;
	r = sys_fsconfig(context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL);
	if (r < 0)
		log_read(context, log);
	return r;
}

int cfs_mount_move(const char *source, const char *target)
{
	return sys_mount_move(source, target);
}

/* By the fd: by now the path may be a link, or another directory. umount2 takes the topmost
 * mount there: a mount that somebody has put on top of ours goes first. */
int cfs_mount_detach(int mount_fd)
{
	char path[FD_PATH_MAX];

	fd_path(mount_fd, path);
	return sys_umount_detach(path);
}
