/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * System calls that change the machine, written down instead of made, while a test asks for it: the
 * core is linked with --wrap. So a test sees what would be mounted, attached or deleted, and a core
 * that is broken does no harm to who runs the tests.
 */
#define _GNU_SOURCE
#include "system/sys.h"
#include "system/sys_mount.h"
#include "system/sys_process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int account_on;
char account_text[16384];
/* The directory of this inode lies on another file system. */
unsigned long account_elsewhere;
/* Where the instructions of a seccomp filter go. */
int account_filter_to;

#define WRAP(name, ...)                 \
	int __real_##name(__VA_ARGS__); \
	int __wrap_##name(__VA_ARGS__); \
	int __wrap_##name(__VA_ARGS__)

__attribute__((format(printf, 1, 2))) static void account(const char *format, ...)
{
	size_t used = strlen(account_text);
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(account_text + used, sizeof(account_text) - used, format, arguments);
	va_end(arguments);
}

/* A descriptor that its receiver may close. */
static int something(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

WRAP(sys_openat, int dir_fd, const char *path, int flags)
{
	if (!account_on || strncmp(path, "/dev/loop", strlen("/dev/loop")) != 0)
		return __real_sys_openat(dir_fd, path, flags);
	account("open %s %s\n", path, (flags & O_ACCMODE) == O_RDONLY ? "ro" : "rw");
	return something();
}

WRAP(sys_fstat, int fd, struct stat *out)
{
	int r = __real_sys_fstat(fd, out);

	if (r >= 0 && account_on && account_elsewhere == out->st_ino)
		out->st_dev++;
	return r;
}

/* Gone is what the test says is gone: nothing. Directories are found out as the kernel does. */
WRAP(sys_unlinkat, int dir_fd, const char *name, int flags)
{
	struct stat st;

	if (!account_on)
		return __real_sys_unlinkat(dir_fd, name, flags);
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (flags == 0 && S_ISDIR(st.st_mode))
		return -EISDIR;
	account("%s %s\n", flags == 0 ? "unlink" : "rmdir", name);
	return 0;
}

WRAP(sys_fsopen, const char *type)
{
	if (!account_on)
		return __real_sys_fsopen(type);
	account("fsopen %s\n", type);
	return something();
}

WRAP(sys_fsconfig, int context, unsigned int command, const char *key, const char *value)
{
	if (!account_on)
		return __real_sys_fsconfig(context, command, key, value);
	if (key != NULL)
		account("%s%s%s\n", key, value != NULL ? "=" : "", value != NULL ? value : "");
	return 0;
}

WRAP(sys_fsmount, int context, uint64_t attributes)
{
	if (!account_on)
		return __real_sys_fsmount(context, attributes);
	account("fsmount %#x\n", (unsigned int)attributes);
	return something();
}

WRAP(sys_loop_get_free, int control_fd)
{
	return account_on ? 7 : __real_sys_loop_get_free(control_fd);
}

WRAP(sys_loop_configure, int loop_fd, const struct loop_config *config)
{
	if (!account_on)
		return __real_sys_loop_configure(loop_fd, config);
	account("configure %s%s%#x blocks of %u\n",
		config->info.lo_flags & LO_FLAGS_READ_ONLY ? "read-only " : "",
		config->info.lo_flags & LO_FLAGS_AUTOCLEAR ? "autoclear " : "",
		config->info.lo_flags & ~(unsigned int)(LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR),
		config->block_size);
	return 0;
}

WRAP(sys_seccomp_filter, const struct sock_fprog *filter)
{
	if (!account_on)
		return __real_sys_seccomp_filter(filter);
	(void)!write(account_filter_to, filter->filter, filter->len * sizeof(filter->filter[0]));
	return -EPERM;
}
