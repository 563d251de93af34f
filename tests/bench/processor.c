/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Runs a program and prints the time that it and its children had the processor, in nanoseconds. What
 * they waited is not in it. With QEMU's -icount shift=0 a nanosecond is an instruction. */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static long long nanoseconds(const struct timeval *time)
{
	return (time->tv_sec * 1000000LL + time->tv_usec) * 1000;
}

int main(int argc, char **argv)
{
	struct rusage usage;
	int status;
	pid_t child;

	if (argc < 2)
		return 1;
	child = fork();
	if (child == 0) {
		execv(argv[1], argv + 1);
		_exit(127);
	}
	if (child < 0 || wait4(child, &status, 0, &usage) < 0 || status != 0)
		return 1;
	printf("%lld\n", nanoseconds(&usage.ru_utime) + nanoseconds(&usage.ru_stime));
	return 0;
}
