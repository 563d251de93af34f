/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* nanoseconds COMMAND...: prints how long it took, from fork to exit. With QEMU's -icount shift=0 a
 * nanosecond is an instruction of the guest, its kernel's included. */
#define _POSIX_C_SOURCE 200809L
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv)
{
	static char *const environment[] = { NULL };
	long long start = now();
	pid_t child;
	int status;

	if (argc < 2 || posix_spawn(&child, argv[1], NULL, NULL, argv + 1, environment) != 0 ||
	    waitpid(child, &status, 0) != child)
		return 1;
	printf("%lld\n", now() - start);
	return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}
