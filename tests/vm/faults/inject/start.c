// SPDX-License-Identifier: Apache-2.0 OR MIT
/* The program as a new process, as the first one of a machine where that is asked for. */
#define _GNU_SOURCE
#include "inject.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CHILD_FAILED = 126 };

/* As the kernel starts PID 1: nothing is mounted but the root. */
static void unmount_all(void)
{
	char line[4096], path[2048];
	FILE *mounts;

	for (bool found = true; found;) {
		found = false;
		mounts = fopen("/proc/self/mountinfo", "re");
		/* /proc itself is the last to go */
		while (mounts && fgets(line, sizeof(line), mounts)) {
			if (sscanf(line, "%*d %*d %*s %*s %2047s", path) != 1 ||
			    !strcmp(path, "/") || !strcmp(path, "/proc"))
				continue;
			found = umount2(path, MNT_DETACH) == 0;
			if (found)
				break;
		}
		if (mounts)
			fclose(mounts);
	}
	if (umount2("/proc", MNT_DETACH) < 0)
		die("/proc");
}

_Noreturn static void become_program(bool traced)
{
	if (options.first_process) {
		if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
			die("/");
		unmount_all();
	}
	/* Where the heap begins decides how often malloc maps memory: by a random address the Nth call
	 * would be another one in each run, and a call could be passed over. */
	if (personality(ADDR_NO_RANDOMIZE) < 0)
		die("personality");
	dup2(output, STDOUT_FILENO);
	dup2(output, STDERR_FILENO);
	if (!traced || ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
		execv(options.command[0], options.command);
	_exit(CHILD_FAILED);
}

pid_t start(bool traced)
{
	unsigned long own = options.first_process ? CLONE_NEWPID | CLONE_NEWNS : 0;
	pid_t child;

	if (ftruncate(output, 0) < 0 || lseek(output, 0, SEEK_SET) < 0)
		die("memfd");
	child = (pid_t)syscall(SYS_clone, own | SIGCHLD, NULL, NULL, NULL, NULL);
	if (child < 0)
		die("clone");
	if (!child)
		become_program(traced);
	return child;
}
