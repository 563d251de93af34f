/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What the kernel answers to an ioctl, and what the PE parser does where it was taken over, chosen
 * by a test: the core is linked with --wrap.
 */
#define _GNU_SOURCE
#include "cfs.h"
#include "system/sys.h"
#include "system/sys_process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

typedef int (*fault_ioctl)(int fd, unsigned long request, void *argument);

int __real_sys_ioctl(int fd, unsigned long request, void *argument);
int __wrap_sys_ioctl(int fd, unsigned long request, void *argument);

/* NULL: the kernel itself. */
fault_ioctl fault_sys_ioctl;

int __wrap_sys_ioctl(int fd, unsigned long request, void *argument)
{
	if (fault_sys_ioctl)
		return fault_sys_ioctl(fd, request, argument);
	return __real_sys_ioctl(fd, request, argument);
}

int __real_sys_fstatfs(int fd, struct statfs *out);
int __wrap_sys_fstatfs(int fd, struct statfs *out);

/* 0: the kernel itself. All bits: the call fails. */
unsigned long fault_file_system;

int __wrap_sys_fstatfs(int fd, struct statfs *out)
{
	if (fault_file_system == 0)
		return __real_sys_fstatfs(fd, out);
	if (fault_file_system == ~0ul)
		return -EDOM;
	*out = (struct statfs){ .f_type = (__fsword_t)fault_file_system, .f_bsize = 4096 };
	return 0;
}

/* The C library's function of this name has that error, so many times after so many calls. */
const char *fault_call;
int fault_call_after, fault_call_times, fault_call_error;
/* Bytes that one read gives; 0: as many as there are. */
size_t fault_read_most;

#define LIBC(name, type, ...)            \
	type __real_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__)

/* An error that is over stays in errno, as it may from any call before. */
static int fails(const char *name)
{
	static int calls;

	if (fault_call == NULL || strcmp(name, fault_call) != 0) {
		calls = 0;
		return 0;
	}
	if (fault_call_after > 0) {
		fault_call_after--;
		return 0;
	}
	if (++calls > 100) /* no end of it */
		abort();
	errno = fault_call_error;
	return fault_call_times-- > 0;
}

LIBC(openat, int, int dir_fd, const char *path, int flags, ...)
{
	return fails("openat") ? -1 : __real_openat(dir_fd, path, flags);
}

/* 1: the account has answered, see account.c. */
int account_syscall(long number, const long *arguments, long *out);

LIBC(syscall, long, long number, ...)
{
	long a[5], answer;
	va_list arguments;

	va_start(arguments, number);
	for (size_t i = 0; i < 5; i++)
		a[i] = va_arg(arguments, long);
	va_end(arguments);
	if (account_syscall(number, a, &answer))
		return answer;
	return fails("syscall") ? -1 : __real_syscall(number, a[0], a[1], a[2], a[3], a[4]);
}

LIBC(fstatfs, int, int fd, struct statfs *out)
{
	return fails("fstatfs") ? -1 : __real_fstatfs(fd, out);
}

LIBC(fstatat, int, int dir_fd, const char *path, struct stat *out, int flags)
{
	return fails("fstatat") ? -1 : __real_fstatat(dir_fd, path, out, flags);
}

LIBC(memfd_create, int, const char *name, unsigned int flags)
{
	return fails("memfd_create") ? -1 : __real_memfd_create(name, flags);
}

LIBC(fcntl, int, int fd, int command, ...)
{
	va_list arguments;
	long argument;

	va_start(arguments, command);
	argument = va_arg(arguments, long);
	va_end(arguments);
	return fails("fcntl") ? -1 : __real_fcntl(fd, command, argument);
}

LIBC(sendfile, ssize_t, int to, int from, off_t *offset, size_t length)
{
	if (fault_read_most > 0 && length > fault_read_most)
		length = fault_read_most;
	return fails("sendfile") ? -1 : __real_sendfile(to, from, offset, length);
}

LIBC(read, ssize_t, int fd, void *buffer, size_t length)
{
	if (fault_read_most > 0 && length > fault_read_most)
		length = fault_read_most;
	return fails("read") ? -1 : __real_read(fd, buffer, length);
}

LIBC(pread, ssize_t, int fd, void *buffer, size_t length, off_t offset)
{
	return fails("pread") ? -1 : __real_pread(fd, buffer, length, offset);
}

LIBC(write, ssize_t, int fd, const void *data, size_t length)
{
	return fails("write") ? -1 : __real_write(fd, data, length);
}

LIBC(socket, int, int domain, int type, int protocol)
{
	return fails("socket") ? -1 : __real_socket(domain, type, protocol);
}

LIBC(connect, int, int fd, const struct sockaddr *address, socklen_t length)
{
	return fails("connect") ? -1 : __real_connect(fd, address, length);
}

LIBC(send, ssize_t, int fd, const void *data, size_t length, int flags)
{
	return fails("send") ? -1 : __real_send(fd, data, length, flags);
}

LIBC(pipe2, int, int *ends, int flags)
{
	return fails("pipe2") ? -1 : __real_pipe2(ends, flags);
}

LIBC(fork, pid_t, void)
{
	return fails("fork") ? -1 : __real_fork();
}

LIBC(dup3, int, int fd, int place, int flags)
{
	return fails("dup3") ? -1 : __real_dup3(fd, place, flags);
}

LIBC(waitpid, pid_t, pid_t child, int *status, int options)
{
	return fails("waitpid") ? -1 : __real_waitpid(child, status, options);
}

int __real_sys_limit(int resource, unsigned long limit);
int __wrap_sys_limit(int resource, unsigned long limit);

int __wrap_sys_limit(int resource, unsigned long limit)
{
	return fails("setrlimit") ? -errno : __real_sys_limit(resource, limit);
}

LIBC(prctl, int, int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	return fails("prctl") ? -1 : __real_prctl(option, a, b, c, d);
}

enum {
	FAULT_NONE,
	FAULT_OPEN,
	FAULT_SOCKET,
	FAULT_FORK,
	FAULT_KILL,
	FAULT_MEMORY,
	FAULT_READ_OTHER,
	FAULT_WRITE_OTHER,
	FAULT_CRASH,
	FAULT_LOOP,
	FAULT_SILENT,
	FAULT_SHORT,
	FAULT_TOO_LONG,
	FAULT_ERRNO,
	FAULT_MORE,
	FAULT_LESS,
	FAULT_LATE,
	FAULT_ZERO,
};

/* What the parser does instead, if anything; and a descriptor to do it with. */
int fault_parser;
int fault_descriptor;

int __real_cfs_pe_parse(cfs_read_at read, void *context, uint64_t file_size, struct cfs_pe *out,
			const char **why);
int __wrap_cfs_pe_parse(cfs_read_at read, void *context, uint64_t file_size, struct cfs_pe *out,
			const char **why);

/* An answer to the parent in place of the parser's. */
static void answer(int32_t result, size_t size)
{
	static uint8_t data[2 * CFS_CONFINED_MAX];

	memcpy(data, &result, sizeof(result));
	sys_exit(write(fault_descriptor, data, size) < 0);
}

int __wrap_cfs_pe_parse(cfs_read_at read, void *context, uint64_t file_size, struct cfs_pe *out,
			const char **why)
{
	char byte = 0;

	switch (fault_parser) {
	case FAULT_OPEN: return open("/dev/null", O_RDONLY | O_CLOEXEC);
	case FAULT_SOCKET: return socket(AF_UNIX, SOCK_STREAM, 0);
	case FAULT_FORK: return fork();
	case FAULT_KILL: return kill(getppid(), 0);
	case FAULT_MEMORY: return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
	case FAULT_READ_OTHER: return (int)pread(fault_descriptor, &byte, 1, 0);
	case FAULT_WRITE_OTHER: return (int)write(fault_descriptor, &byte, 1);
	case FAULT_CRASH: raise(SIGSEGV); return 0;
	case FAULT_LOOP:
		for (;;)
			__asm__ volatile("");
	case FAULT_SILENT: sys_exit(0); return 0;
	case FAULT_SHORT: answer(0, 3); return 0;
	case FAULT_TOO_LONG: answer(CFS_CONFINED_MAX, 4 + CFS_WHY_MAX + CFS_CONFINED_MAX); return 0;
	case FAULT_ERRNO: answer(INT32_MIN, 4 + CFS_WHY_MAX); return 0;
	case FAULT_MORE: answer(0, 4 + CFS_WHY_MAX + 50); return 0;
	case FAULT_LESS: answer(50, 4 + CFS_WHY_MAX + 49); return 0;
	case FAULT_LATE: /* a whole answer, and then a failure */
		(void)!write(fault_descriptor, (char[4 + CFS_WHY_MAX]){ 0 }, 4 + CFS_WHY_MAX);
		sys_exit(7);
		return 0;
	case FAULT_ZERO: /* a whole proof, of nothing */
		answer(sizeof(struct cfs_uki_proof), 4 + CFS_WHY_MAX + sizeof(struct cfs_uki_proof));
		return 0;
	default: return __real_cfs_pe_parse(read, context, file_size, out, why);
	}
}
