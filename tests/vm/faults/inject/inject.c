// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * inject [OPTION ...] -- PROGRAM ARGUMENT...
 *
 * Runs a program again and again, each time with one fault, and says of each run, in a line of
 * JSON, what failed, how it ended, what it said and what it left. By ptrace, so it is the very
 * file that ships.
 *
 * -m MODE:
 *   error  the Nth system call after exec is not made and answers an errno of calls.c, N = 1, 2,
 *          ... to the last; one errno for each N in turn, or with -a each of them
 *   kill   SIGKILL when it enters the Nth
 *   deny   all calls of one name answer ENOSYS, then EPERM, as by a seccomp filter
 *   memory the Nth allocation (allocation.c, in a build made for it)
 * Which N: -s STEP: each so many. -n ONLY: this one, and no run without a fault. -f MARK: counting
 *   begins at the first call with this in its path; -t MARK: and ends at the next with this.
 * -x MARK: what has this in its path is not there, in no run.
 * -b: the first FSCONFIG_CMD_CREATE answers ENOTBLK, as where EROFS takes only block devices.
 * -p: the program is PID 1, with nothing mounted but the root; a pause takes no time.
 * -u TARGET: the directory where it mounts; each mount on it is taken away again. -g FILE: no run
 *   may leave it. -r FILE: it is said what stands in it, and taken away.
 * After each run (-c EVERY: each so many) comes one without a fault.
 */
#define _GNU_SOURCE
#include "inject.h"
#include "calls.h"

#include <asm/unistd.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct options options = { .step = 1, .every = 1 };
int output;

_Noreturn void die(const char *what)
{
	perror(what);
	exit(2);
}

/* Every errno of the call (with -a), or the one that is due. False: it has no Nth call. */
static bool sweep_call(unsigned long n)
{
	size_t which = options.all ? 0 : n;
	struct run run;

	do {
		run = (struct run){ .at = n, .which = which++ };
		execute_traced(&run);
		if (!run.fired) {
			(void)account_unmount();
			return false;
		}
		account_report(&run);
	} while (options.all && !run.last);
	return true;
}

static void sweep_calls(void)
{
	unsigned long n = options.only ? options.only : 1;

	while (sweep_call(n) && !options.only)
		n += options.step;
}

static void sweep_denials(void)
{
	static const long denied[] = { __NR_openat2, __NR_fsopen, __NR_fsconfig, __NR_fsmount,
				       __NR_move_mount, __NR_open_tree, __NR_mount_setattr,
				       __NR_unshare, __NR_setns, __NR_mount };

	for (size_t i = 0; i < 2 * sizeof(denied) / sizeof(denied[0]); i++) {
		struct run run = { .number = denied[i / 2], .error = i % 2 ? EPERM : ENOSYS };

		run.call = call_of(run.number);
		execute_traced(&run);
		if (run.fired)
			account_report(&run);
		else
			(void)account_unmount();
	}
}

static void sweep_memory(struct counter *counter)
{
	for (unsigned long n = 1;; n += options.step) {
		struct run run = { .at = n, .error = ENOMEM };

		*counter = (struct counter){ .fail_at = n };
		execute_plain(&run);
		if (counter->count < n) {
			(void)account_unmount();
			return;
		}
		*counter = (struct counter){ 0 };
		account_report(&run);
	}
}

/* Shared with the program, which finds its descriptor in the environment. */
static struct counter *share_counter(void)
{
	int memory = memfd_create("counter", 0);
	char number[16];
	void *counter;

	if (memory < 0 || ftruncate(memory, sizeof(struct counter)) < 0)
		die("memfd_create");
	counter = mmap(NULL, sizeof(struct counter), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (counter == MAP_FAILED)
		die("mmap");
	snprintf(number, sizeof(number), "%d", memory);
	setenv("CFS_TEST_ALLOCATIONS", number, 1);
	return counter;
}

static enum mode mode_of(const char *name)
{
	static const char *const names[] = { "error", "kill", "deny", "memory" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(name, names[i]))
			return (enum mode)i;
	}
	errno = EINVAL;
	die(name);
}

static bool parse(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "m:abpc:s:n:f:t:x:u:g:r:")) != -1) {
		switch (option) {
		case 'm': options.mode = mode_of(optarg); break;
		case 'a': options.all = true; break;
		case 'b': options.block_devices = true; break;
		case 'p': options.first_process = true; break;
		case 'c': options.every = strtoul(optarg, NULL, 10); break;
		case 's': options.step = strtoul(optarg, NULL, 10); break;
		case 'n': options.only = strtoul(optarg, NULL, 10); break;
		case 'f': options.from = optarg; break;
		case 't': options.until = optarg; break;
		case 'x': options.absent = optarg; break;
		case 'u': options.target = optarg; break;
		case 'g': options.gone = optarg; break;
		case 'r': options.record = optarg; break;
		default: return false;
		}
	}
	options.command = argv + optind;
	return options.command[0] && options.step && options.every &&
	       (options.target || options.only || options.first_process);
}

int main(int argc, char **argv)
{
	if (!parse(argc, argv))
		return 2;
	output = memfd_create("output", MFD_CLOEXEC);
	if (output < 0)
		die("memfd_create");
	account_begin();
	switch (options.mode) {
	case DENY_MODE: sweep_denials(); break;
	case MEMORY_MODE: sweep_memory(share_counter()); break;
	default: sweep_calls();
	}
	return 0;
}
