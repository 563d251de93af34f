// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * swap A B: exchanges both names as fast as it can until SIGTERM; then prints how often.
 * swap --once A B
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t ended;

static void end(int signal)
{
	(void)signal;
	ended = 1;
}

int main(int argc, char **argv)
{
	unsigned long count = 0;
	int once = argc == 4 && !strcmp(argv[1], "--once");

	if (argc != 3 + once)
		return 2;
	argv += once;
	signal(SIGTERM, end);
	while (!ended) {
		if (renameat2(AT_FDCWD, argv[1], AT_FDCWD, argv[2], RENAME_EXCHANGE)) {
			perror("swap");
			return 1;
		}
		count++;
		if (once)
			break;
	}
	printf("%lu\n", count);
	return 0;
}
