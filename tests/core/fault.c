/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What the kernel answers to an ioctl, and what the PE parser does where it was taken over, chosen
 * by a test: the core is linked with --wrap.
 */
#define _GNU_SOURCE
#include "cfs.h"
#include "system/sys.h"
#include "system/sys_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
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
	FAULT_LATE,
};

/* What the parser does instead, if anything; and a descriptor to do it with. */
int fault_parser;
int fault_descriptor;

int __real_cfs_pe_parse(cfs_pe_read read, void *context, uint64_t file_size, struct cfs_pe *out,
			const char **why);
int __wrap_cfs_pe_parse(cfs_pe_read read, void *context, uint64_t file_size, struct cfs_pe *out,
			const char **why);

/* An answer to the parent in place of the parser's. */
static void answer(int32_t result, size_t size)
{
	static uint8_t data[2 * CFS_CONFINED_MAX];

	memcpy(data, &result, sizeof(result));
	sys_exit(write(fault_descriptor, data, size) < 0);
}

int __wrap_cfs_pe_parse(cfs_pe_read read, void *context, uint64_t file_size, struct cfs_pe *out,
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
	case FAULT_LATE: /* a whole answer, and then a failure */
		(void)!write(fault_descriptor, (char[4 + CFS_WHY_MAX]){ 0 }, 4 + CFS_WHY_MAX);
		sys_exit(7);
		return 0;
	default: return __real_cfs_pe_parse(read, context, file_size, out, why);
	}
}
