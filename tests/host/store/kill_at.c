/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * kill_at NUMBER PROGRAM [ARGUMENT]...: the program, killed with SIGKILL before its system call of
 * that number is made, of all its threads together. Only those count that may change a file system
 * or wait for its disk: all but the ones that are named below. Ends as the program does, or with 99
 * where it was killed.
 *
 * NUMBER:OUT:IN: it is held there, and not killed: a byte is written to descriptor OUT, and it goes
 * on when one comes from IN, or its end.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/ptrace.h>
#include <unistd.h>

enum { KILLED = 99, FAILED = 98 };

static const uint64_t harmless[] = {
#ifdef SYS_arch_prctl
	SYS_access,	SYS_arch_prctl, SYS_lstat,	SYS_open,	SYS_poll,
	SYS_readlink,	SYS_stat,
#endif
	SYS_brk,	SYS_clock_gettime, SYS_clock_nanosleep, SYS_clone, SYS_clone3,
	SYS_close,	SYS_dup,	SYS_dup3,	SYS_execve,	SYS_exit,
	SYS_exit_group, SYS_faccessat,	SYS_faccessat2, SYS_fadvise64,	SYS_fcntl,
	SYS_fgetxattr,	SYS_flock,	SYS_fstat,	SYS_fstatfs,	SYS_futex,
	SYS_getcwd,	SYS_getdents64, SYS_getegid,	SYS_geteuid,	SYS_getgid,
	SYS_getpid,	SYS_getppid,	SYS_getrandom,	SYS_gettid,	SYS_getuid,
	SYS_lseek,	SYS_madvise,	SYS_mmap,	SYS_mprotect,	SYS_mremap,
	SYS_munmap,	SYS_newfstatat, SYS_prctl,	SYS_pread64,	SYS_prlimit64,
	SYS_read,	SYS_readlinkat, SYS_rseq,	SYS_rt_sigaction, SYS_rt_sigprocmask,
	SYS_rt_sigreturn, SYS_sched_getaffinity, SYS_sched_yield, SYS_set_robust_list,
	SYS_set_tid_address, SYS_sigaltstack, SYS_statfs, SYS_statx,	SYS_sysinfo,
	SYS_umask,	SYS_uname,
};

static bool makes_a_file(uint64_t flags)
{
	/* That one has the bit of O_DIRECTORY in it. */
	return flags & (O_CREAT | O_TRUNC) || (flags & O_TMPFILE) == O_TMPFILE;
}

static bool counts(uint64_t number, const uint64_t *arguments)
{
	if (number == SYS_openat)
		return makes_a_file(arguments[2]);
#ifdef SYS_open
	if (number == SYS_open)
		return makes_a_file(arguments[1]);
#endif
	if (number == SYS_ioctl)
		return arguments[1] == FICLONE || arguments[1] == FS_IOC_SETFLAGS;
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
		if (harmless[i] == number)
			return false;
	}
	return true;
}

static void fail(const char *what)
{
	perror(what);
	exit(FAILED);
}

/* Waits until nothing of it is left: what dies must not write any more. The first thread is told
 * of as the last. */
static int stop(pid_t program)
{
	int status;
	pid_t who;

	kill(program, SIGKILL);
	do
		who = waitpid(-1, &status, __WALL);
	while (who > 0 && (who != program || WIFSTOPPED(status)));
	return KILLED;
}

static void hold(int out, int in)
{
	char byte = 0;

	if (write(out, &byte, 1) != 1 || read(in, &byte, 1) < 0)
		fail("hold");
}

static int trace(pid_t program, long at, int out, int in)
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
	struct __ptrace_syscall_info info;
	long seen = 0;
	int status;
	pid_t who;

	if (waitpid(program, &status, 0) != program || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_SETOPTIONS, program, 0, options) != 0)
		fail("ptrace");
	ptrace(PTRACE_SYSCALL, program, 0, 0);
	while ((who = waitpid(-1, &status, __WALL)) > 0) {
		long deliver = 0;

		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			if (who == program)
				return WIFEXITED(status) ? WEXITSTATUS(status) : FAILED;
			continue;
		}
		if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
			if (ptrace(PTRACE_GET_SYSCALL_INFO, who, sizeof(info), &info) > 0 &&
			    info.op == PTRACE_SYSCALL_INFO_ENTRY &&
			    counts(info.entry.nr, (const uint64_t *)info.entry.args) &&
			    ++seen == at) {
				if (out < 0)
					return stop(program);
				hold(out, in);
			}
		} else if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) {
			deliver = WSTOPSIG(status);
		}
		ptrace(PTRACE_SYSCALL, who, 0, deliver);
	}
	fail("waitpid");
	return FAILED;
}

int main(int count, char **arguments)
{
	int out = -1, in = -1;
	pid_t program;
	long at;

	if (count < 3 || sscanf(arguments[1], "%ld:%d:%d", &at, &out, &in) < 1)
		return FAILED;
	program = fork();
	if (program < 0)
		fail("fork");
	if (program == 0) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0)
			_exit(FAILED);
		execv(arguments[2], arguments + 2);
		_exit(FAILED);
	}
	return trace(program, at, out, in);
}
