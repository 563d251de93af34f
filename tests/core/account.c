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
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/mount.h>
#include <unistd.h>

int account_on;
char account_text[16384];
/* What a context says, a message a read; each ends with \1. */
char account_messages[1024];
/* There are no loop devices. */
int account_no_loop;
/* Of calls that are not written down: these have account_error. */
int account_no_stat, account_no_stream;
/* The directory of this inode lies on another file system. */
unsigned long account_elsewhere;
/* Where the instructions of a seccomp filter go. */
int account_filter_to;
/* The call of this number, from 1 on, has this error instead; 0: none has. */
int account_fail_at;
int account_error;
/* A second call that fails, with its own error; 0: none. */
int account_also_at, account_also_error;

static int account_calls;

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
	account_calls++;
}

/* Of the call that was written down last. */
static int answer(void)
{
	if (account_also_at && account_calls == account_also_at)
		return -account_also_error;
	return account_calls == account_fail_at ? -account_error : 0;
}

void account_begin(int fail_at, int error)
{
	account_text[0] = '\0';
	account_calls = 0;
	account_messages[0] = '\0';
	account_no_loop = account_no_stat = account_no_stream = 0;
	account_fail_at = fail_at;
	account_error = error;
	account_also_at = account_also_error = 0;
	account_on = 1;
}

/* A descriptor that its receiver may close. */
static int something(void)
{
	int error = answer();

	return error < 0 ? error : open("/dev/null", O_RDONLY | O_CLOEXEC);
}

WRAP(sys_openat, int dir_fd, const char *path, int flags)
{
	if (!account_on)
		return __real_sys_openat(dir_fd, path, flags);
	if (strncmp(path, "/dev/loop", strlen("/dev/loop")) == 0) {
		account("open %s %s\n", path, (flags & O_ACCMODE) == O_RDONLY ? "ro" : "rw");
		return account_no_loop ? -ENOENT : something();
	}
	account("open %s %#x\n", path, (unsigned int)flags);
	if (strcmp(path, "/dev/btrfs-control") == 0)
		return something();
	return answer() < 0 ? answer() : __real_sys_openat(dir_fd, path, flags);
}

WRAP(sys_openat2, int dir_fd, const char *path, uint64_t flags, uint64_t resolve)
{
	if (!account_on)
		return __real_sys_openat2(dir_fd, path, flags, resolve);
	account("openat2 %s %#llx %#llx\n", path, (unsigned long long)flags,
		(unsigned long long)resolve);
	return answer() < 0 ? answer() : __real_sys_openat2(dir_fd, path, flags, resolve);
}

WRAP(sys_fstat, int fd, struct stat *out)
{
	int r = account_on && account_no_stat ? -account_error : __real_sys_fstat(fd, out);

	if (r >= 0 && account_on && account_elsewhere == out->st_ino)
		out->st_dev++;
	return r;
}

WRAP(sys_fdopendir, int fd, DIR **out)
{
	return account_on && account_no_stream ? -account_error : __real_sys_fdopendir(fd, out);
}

WRAP(sys_read, int fd, void *buffer, size_t length)
{
	size_t size = strcspn(account_messages, "\1");

	if (!account_on || size == 0)
		return __real_sys_read(fd, buffer, length);
	memcpy(buffer, account_messages, size < length ? size : length);
	memmove(account_messages, account_messages + size + 1, strlen(account_messages + size));
	return (int)size;
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
		account("%s%s%s%s\n", key, value != NULL ? "=" : "", value != NULL ? value : "",
			(command == FSCONFIG_SET_STRING) != (value != NULL) ? " by another call" : "");
	else
		account("%s\n", command == FSCONFIG_CMD_CREATE ? "create" : "reconfigure");
	return answer();
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
	if (!account_on)
		return __real_sys_loop_get_free(control_fd);
	account("get free\n");
	return answer() < 0 ? answer() : 7;
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
	return answer();
}

WRAP(sys_mount_move, const char *source, const char *target)
{
	if (!account_on)
		return __real_sys_mount_move(source, target);
	account("move %s to %s\n", source, target);
	return answer();
}

WRAP(sys_chdir, const char *path)
{
	if (!account_on)
		return __real_sys_chdir(path);
	account("chdir %s\n", path);
	return answer();
}

WRAP(sys_chroot, const char *path)
{
	if (!account_on)
		return __real_sys_chroot(path);
	account("chroot %s\n", path);
	return answer();
}

WRAP(sys_fchdir, int fd)
{
	if (!account_on)
		return __real_sys_fchdir(fd);
	account("fchdir\n");
	return answer();
}

WRAP(sys_unshare, int flags)
{
	if (!account_on)
		return __real_sys_unshare(flags);
	account("unshare %#x\n", (unsigned int)flags);
	return answer();
}

WRAP(sys_setns, int fd, int type)
{
	if (!account_on)
		return __real_sys_setns(fd, type);
	account("setns %#x\n", (unsigned int)type);
	return answer();
}

WRAP(sys_mount_propagation, const char *path, unsigned long flags)
{
	if (!account_on)
		return __real_sys_mount_propagation(path, flags);
	account("propagation %s %#lx\n", path, flags);
	return answer();
}

WRAP(sys_mount_setattr, int mount_fd, unsigned int flags, uint64_t set, uint64_t clear)
{
	if (!account_on)
		return __real_sys_mount_setattr(mount_fd, flags, set, clear);
	account("setattr %#x +%#x -%#x\n", flags, (unsigned int)set,
		(unsigned int)clear);
	return answer();
}

WRAP(sys_finit_module, int fd, const char *arguments, int flags)
{
	if (!account_on)
		return __real_sys_finit_module(fd, arguments, flags);
	account("finit_module %#x %s\n", (unsigned int)flags, arguments);
	return answer();
}

WRAP(sys_close_range, unsigned int first, unsigned int last)
{
	if (!account_on)
		return __real_sys_close_range(first, last);
	account("close_range %#x %#x\n", first, last);
	return answer();
}

WRAP(sys_setsid, void)
{
	if (!account_on)
		return __real_sys_setsid();
	account("setsid\n");
	return answer();
}

WRAP(sys_flock, int fd, int operation)
{
	if (!account_on)
		return __real_sys_flock(fd, operation);
	account("flock %#x\n", (unsigned int)operation);
	return answer();
}

WRAP(sys_sigaction, int number, const struct sigaction *action)
{
	if (!account_on)
		return __real_sys_sigaction(number, action);
	account("sigaction %d %#x\n", number, (unsigned int)action->sa_flags);
	return answer();
}

WRAP(sys_reboot, unsigned int command)
{
	if (!account_on)
		return __real_sys_reboot(command);
	account("reboot %#x\n", command);
	return answer();
}

/* Of the C library, which says an error by errno. */
static int from_library(int result)
{
	errno = result < 0 ? -result : errno;
	return result < 0 ? -1 : result;
}

/* Of fault.c: what syscall() answers, with the flags that sys_mount.c adds. */
int account_syscall(long number, const long *arguments, long *out)
{
	if (!account_on)
		return 0;
	switch (number) {
	case SYS_move_mount:
		account("move_mount %#x%s%s\n", (unsigned int)arguments[4],
			(const char *)arguments[1], (const char *)arguments[3]);
		*out = from_library(answer());
		return 1;
	case SYS_fspick:
		account("fspick %#x%s\n", (unsigned int)arguments[2],
			(const char *)arguments[1]);
		*out = from_library(something());
		return 1;
	case SYS_pivot_root:
		account("pivot_root %s %s\n", (const char *)arguments[0],
			(const char *)arguments[1]);
		*out = from_library(answer());
		return 1;
	case SYS_umount2:
		account("umount %#x\n", (unsigned int)arguments[1]);
		*out = from_library(answer());
		return 1;
	}
	return 0;
}

WRAP(sys_open_tree, int directory_fd, unsigned int flags)
{
	if (!account_on)
		return __real_sys_open_tree(directory_fd, flags);
	account("open_tree %#x\n", flags);
	return something();
}

WRAP(sys_seccomp_filter, const struct sock_fprog *filter)
{
	if (!account_on)
		return __real_sys_seccomp_filter(filter);
	(void)!write(account_filter_to, filter->filter, filter->len * sizeof(filter->filter[0]));
	return -EPERM;
}
