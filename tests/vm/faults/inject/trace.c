// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * One run under ptrace. Where the program forks, the child runs to its end before the parent goes
 * on, so that the Nth call is the same one each time; a parent that waits or reads sees no
 * difference.
 */
#define _GNU_SOURCE
#include "calls.h"
#include "inject.h"

#include <asm/unistd.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	RUN_SECONDS = 60,
	CMD_CREATE = 6, /* FSCONFIG_CMD_CREATE */
	DEPTH_MAX = 4,
};

enum counting { NOT_YET, COUNTING, NO_LONGER };

/* What belongs to this run alone. */
static struct {
	enum counting counting;
	bool refused; /* the one creation that -b refuses */
	pid_t process[DEPTH_MAX]; /* the last one runs, the others wait for it */
	size_t depth;
} now;

static bool is_at(const char *mark, pid_t child, const struct __ptrace_syscall_info *info)
{
	char detail[512];

	describe(child, (long)info->entry.nr, info->entry.args, detail, sizeof(detail));
	return strstr(detail, mark) != NULL;
}

/* -f and -t: does this call count? */
static bool counts(pid_t child, const struct __ptrace_syscall_info *info)
{
	if (now.counting == NOT_YET && is_at(options.from, child, info))
		now.counting = COUNTING;
	else if (now.counting == COUNTING && options.until && is_at(options.until, child, info))
		now.counting = NO_LONGER;
	return now.counting == COUNTING;
}

static void pick_error(struct run *run)
{
	size_t count = 0;

	run->call = call_of(run->number);
	while (run->call && count < ERRORS_MAX && run->call->errors[count])
		count++;
	run->error = count ? run->call->errors[run->which % count] : EIO;
	run->last = run->which + 1 >= count;
}

/* The calls that ask for a file by its path: the older ones are musl's on x86-64. */
static bool asks_for_file(long number)
{
#ifdef __x86_64__
	if (number == __NR_open || number == __NR_stat || number == __NR_lstat)
		return true;
#endif
	return number == __NR_openat || number == __NR_newfstatat;
}

static bool unlinks(pid_t child, const struct __ptrace_syscall_info *info)
{
#ifdef __x86_64__
	if (info->entry.nr == __NR_unlink)
		return is_at("/usr/lib/composefs/", child, info);
#endif
	return info->entry.nr == __NR_unlinkat;
}

/* What is answered in each run alike. */
static bool is_staged(pid_t child, const struct __ptrace_syscall_info *info, long *value)
{
	long number = (long)info->entry.nr;

	if (options.absent && asks_for_file(number) && is_at(options.absent, child, info)) {
		*value = -ENOENT;
		return true;
	}
	if (options.block_devices && !now.refused && number == __NR_fsconfig &&
	    info->entry.args[1] == CMD_CREATE) {
		now.refused = true;
		*value = -ENOTBLK;
		return true;
	}
	if (options.first_process && unlinks(child, info)) {
		*value = -EROFS; /* it would empty the initramfs that this program lies in */
		return true;
	}
	if (options.first_process && number == __NR_clock_nanosleep) {
		*value = 0;
		return true;
	}
	return false;
}

/* Is the call that is entered not made, and what does it answer then? */
static bool is_answered(pid_t child, struct run *run, const struct __ptrace_syscall_info *info,
			long *value)
{
	long number = (long)info->entry.nr;

	if (number == __NR_futex) /* libc aborts for an error that it cannot get */
		return false;
	if (counts(child, info)) {
		run->calls++;
		if (options.mode == DENY_MODE ? number == run->number
					      : run->calls == run->at) {
			run->fired = true;
			run->forked = now.depth > 1;
			if (options.mode != DENY_MODE) {
				run->number = number;
				pick_error(run);
				describe(child, number, info->entry.args, run->detail,
					 sizeof(run->detail));
			}
			*value = -run->error;
			return true;
		}
	}
	return is_staged(child, info, value);
}

static void resume(pid_t child, enum __ptrace_request request, int signal)
{
	if (ptrace(request, child, NULL, (void *)(long)signal) < 0 && errno != ESRCH)
		die("ptrace");
}

/* A crash ends PID 1, and the machine with it; but not one that is traced. */
static void take_signal(pid_t child, enum __ptrace_request how, int signal)
{
	bool crash = signal == SIGSEGV || signal == SIGBUS || signal == SIGILL;

	if (crash && options.first_process && now.depth == 1)
		kill(child, SIGKILL);
	else
		resume(child, how, signal);
}

/* A child is born: it is its turn. */
static pid_t go_down(pid_t parent)
{
	unsigned long born;
	int status;

	if (ptrace(PTRACE_GETEVENTMSG, parent, NULL, &born) < 0)
		die("PTRACE_GETEVENTMSG");
	if (now.depth == DEPTH_MAX || waitpid((pid_t)born, &status, __WALL) < 0)
		die("a child");
	now.process[now.depth++] = (pid_t)born;
	return (pid_t)born;
}

static void trace(pid_t child, struct run *run)
{
	const long set = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK |
			 PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
	enum __ptrace_request how = PTRACE_SYSCALL;
	int status;
	bool answered = false;
	long value = 0;

	if (waitpid(child, &status, __WALL) < 0 || !WIFSTOPPED(status))
		die("no exec");
	if (ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)set) < 0)
		die("PTRACE_SETOPTIONS");
	resume(child, how, 0);
	while (now.depth > 0) {
		struct __ptrace_syscall_info info = { 0 };
		pid_t one = now.process[now.depth - 1];

		if (waitpid(one, &status, __WALL) != one)
			die("waitpid");
		if (!WIFSTOPPED(status)) {
			now.depth--;
			if (now.depth > 0)
				resume(now.process[now.depth - 1], how, 0);
			continue;
		}
		if (status >> 16 == PTRACE_EVENT_EXEC) {
			run->executed = true;
			how = PTRACE_CONT; /* it is another program now */
			resume(one, how, 0);
			continue;
		}
		if (status >> 16) {
			resume(go_down(one), how, 0);
			continue;
		}
		if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
			take_signal(one, how, WSTOPSIG(status));
			continue;
		}
		if (ptrace(PTRACE_GET_SYSCALL_INFO, one, (void *)sizeof(info), &info) < 0)
			die("PTRACE_GET_SYSCALL_INFO");
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
			/* exit_group cannot fail */
			if (info.entry.nr == __NR_exit_group && options.mode != KILL_MODE) {
				resume(one, PTRACE_CONT, 0);
				continue;
			}
			answered = is_answered(one, run, &info, &value);
			if (answered && options.mode == KILL_MODE && run->fired) {
				kill(one, SIGKILL);
				answered = false;
				continue;
			}
			if (answered)
				skip_call(one, (long)info.entry.nr);
		} else if (answered) {
			answer_call(one, value);
			answered = false;
			/* nothing more to answer: it may go at its full speed */
			if (run->fired && options.mode == ERROR_MODE &&
			    !options.block_devices && !options.first_process)
				how = PTRACE_CONT;
		}
		resume(one, how, 0);
	}
	run->status = status;
}

static volatile sig_atomic_t hung;

static void end_it(int signal)
{
	(void)signal;
	hung = 1;
	for (size_t i = 0; i < now.depth; i++)
		kill(now.process[i], SIGKILL);
}

static void execute(struct run *run, bool traced)
{
	const struct sigaction on_alarm = { .sa_handler = end_it, .sa_flags = SA_RESTART };

	now.refused = false;
	now.counting = options.from ? NOT_YET : COUNTING;
	now.process[0] = start(traced);
	now.depth = 1;
	hung = 0;
	if (sigaction(SIGALRM, &on_alarm, NULL) < 0)
		die("sigaction");
	alarm(RUN_SECONDS);
	if (traced)
		trace(now.process[0], run);
	else if (waitpid(now.process[0], &run->status, 0) < 0)
		die("waitpid");
	alarm(0);
	run->hung = hung;
}

void execute_traced(struct run *run)
{
	execute(run, true);
}

void execute_plain(struct run *run)
{
	execute(run, false);
}
