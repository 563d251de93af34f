/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#define _GNU_SOURCE
#include "sys_process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int result(long value)
{
	return value < 0 ? -errno : (int)value;
}

int sys_pipe(int fds[2])
{
	return result(pipe2(fds, O_CLOEXEC));
}

int sys_fork(void)
{
	return result(fork());
}

int sys_fork_with_files(void)
{
	return result(syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0));
}

int sys_wait(pid_t child, int *status)
{
	pid_t ended;

	do {
		ended = waitpid(child, status, 0);
	} while (ended < 0 && errno == EINTR);
	return result(ended);
}

int sys_write_exact(int fd, const void *data, size_t length)
{
	const uint8_t *from = data;

	while (length > 0) {
		ssize_t written = write(fd, from, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		from += written;
		length -= (size_t)written;
	}
	return 0;
}

int sys_limit(int resource, unsigned long limit)
{
	const struct rlimit both = { .rlim_cur = limit, .rlim_max = limit };

	return result(syscall(SYS_prlimit64, 0, resource, &both, NULL));
}

int sys_no_new_privileges(void)
{
	return result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

int sys_seccomp_filter(const struct sock_fprog *filter)
{
	return result(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter, 0, 0));
}

int sys_setsid(void)
{
	return result(setsid());
}

int sys_sigaction(int number, const struct sigaction *action)
{
	return result(sigaction(number, action, NULL));
}

int sys_close_range(unsigned int first, unsigned int last)
{
	return result(syscall(SYS_close_range, first, last, 0)); /* musl has no function for it */
}

void sys_exit(int code)
{
	for (;;)
		(void)syscall(SYS_exit_group, code);
}
