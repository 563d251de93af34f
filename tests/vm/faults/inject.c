// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * inject [-m MODE] [-a] [-b] [-c EVERY] [-s STEP] [-n ONLY] [-f MARK] [-u TARGET] [-g FILE] -- PROGRAM ARGUMENT...
 *
 * Runs a program again and again, each time with one fault, and says of each run, in a line of
 * JSON, what failed, how it ended, what it said and what it left. By ptrace, so it is the very
 * file that ships. MODE:
 *   error  the Nth system call after exec is not made and answers an errno of calls.h, N = 1, 2,
 *          ... to the last; one errno for each N in turn, or with -a each of them
 *   kill   SIGKILL when it enters the Nth
 *   deny   all calls of one name answer ENOSYS, then EPERM, as by a seccomp filter
 *   memory the Nth allocation (allocation.c, in a build made for it); N grows by STEP
 * -b: the first FSCONFIG_CMD_CREATE answers ENOTBLK, as where EROFS takes only block devices.
 * -u: the directory where it mounts; each mount on it is taken away again. -g: a file that no run
 * may leave. -n: this N alone, and no run without a fault. -f: counting begins at the first call
 * with this in its path. After each run (-c: each so many) comes one without a fault.
 */
#define _GNU_SOURCE
#include "calls.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum mode { ERROR_MODE, KILL_MODE, DENY_MODE, MEMORY_MODE };

enum {
	RUN_SECONDS = 60,
	STATE_MAX = 65536,
	TEXT_MAX = 8192,
	CMD_CREATE = 6, /* FSCONFIG_CMD_CREATE */
	CHILD_FAILED = 126,
};

struct counter { /* shared with allocation.c */
	uint64_t count;
	uint64_t fail_at;
};

static struct {
	enum mode mode;
	bool all;
	bool block_devices; /* -b */
	bool refused;       /* once in this run */
	unsigned long step;
	unsigned long every;
	unsigned long only;
	const char *mark;
	bool marked; /* in this run */
	unsigned long runs;
	const char *target;
	const char *gone;
	char **command;
	int out;
	struct counter *counter;
	char before[STATE_MAX];
} the;

struct run {
	unsigned long at;   /* which call or allocation; kind of call in denied[] */
	size_t which;       /* of its errors */
	unsigned long calls; /* found, from here on */
	const struct call *call;
	long number;
	int error;
	bool fired;
	bool last; /* there is no further error for it */
	char detail[256];
	int status;
};

_Noreturn static void die(const char *what)
{
	perror(what);
	exit(2);
}

static size_t slurp(const char *path, char *room, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t got;

	while (fd >= 0 && used < size - 1 && (got = read(fd, room + used, size - 1 - used)) > 0)
		used += (size_t)got;
	if (fd >= 0)
		close(fd);
	room[used] = '\0';
	return used;
}

/* All mounts and all loop devices in use. */
static void state(char room[STATE_MAX])
{
	size_t used = slurp("/proc/self/mountinfo", room, STATE_MAX / 2);
	DIR *blocks = opendir("/sys/block");
	struct dirent *entry;

	while (blocks && (entry = readdir(blocks))) {
		char path[512], file[512];

		snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file", entry->d_name);
		if (!slurp(path, file, sizeof(file)))
			continue;
		used += (size_t)snprintf(room + used, STATE_MAX - used, "%s %s", entry->d_name,
					 file);
	}
	if (blocks)
		closedir(blocks);
}

/* Is all as before? A mount that nobody holds goes a moment after its last process. */
static bool as_before(char now[STATE_MAX])
{
	for (int tries = 0; tries < 500; tries++) {
		state(now);
		if (!strcmp(now, the.before))
			return true;
		usleep(2000);
	}
	return false;
}

static void print_text(const char *key, const char *text)
{
	printf(", \"%s\": \"", key);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
			printf("\\u%04x", *c);
		else
			putchar(*c);
	}
	putchar('"');
}

static void peek(pid_t child, uint64_t address, char *room, size_t size)
{
	struct iovec here = { room, size - 1 };
	struct iovec there = { (void *)address, size - 1 };
	ssize_t got = address ? process_vm_readv(child, &here, 1, &there, 1, 0) : -1;

	room[got < 0 ? 0 : got] = '\0';
}

/* Its path, or what else tells one call of that name from another. */
static void describe(pid_t child, struct run *run, const uint64_t *args)
{
	switch (run->number) {
	case __NR_openat: case __NR_openat2: case __NR_newfstatat: case __NR_mkdirat:
	case __NR_symlink:
		peek(child, args[1], run->detail, sizeof(run->detail));
		break;
	case __NR_open: case __NR_stat: case __NR_lstat: case __NR_mkdir: case __NR_chdir:
	case __NR_fsopen: case __NR_getxattr: case __NR_lgetxattr: case __NR_rename:
	case __NR_unlink: case __NR_umount2: case __NR_readlink:
		peek(child, args[0], run->detail, sizeof(run->detail));
		break;
	case __NR_fsconfig:
		peek(child, args[2], run->detail, sizeof(run->detail));
		if (!run->detail[0])
			snprintf(run->detail, sizeof(run->detail), "command %u", (unsigned)args[1]);
		break;
	default:
		snprintf(run->detail, sizeof(run->detail), "%d %#llx", (int)args[0],
			 (unsigned long long)args[1]);
	}
}

static void resume(pid_t child, int request, int signal)
{
	if (ptrace(request, child, NULL, (void *)(long)signal) < 0 && errno != ESRCH)
		die("ptrace");
}

/* At the entry of a call: it is not made. At its exit: its answer. brk fails otherwise: it answers
 * the old break, which is what brk(0) asks for. */
static void set_register(pid_t child, bool entry, long value)
{
	static unsigned long long wanted_break; /* the caller expects to find it again */
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, child, NULL, &regs) < 0)
		die("PTRACE_GETREGS");
	if (entry && regs.orig_rax == __NR_brk) {
		wanted_break = regs.rdi;
		regs.rdi = 0;
	} else if (entry) {
		regs.orig_rax = (unsigned long long)value;
	} else if (regs.orig_rax == __NR_brk) {
		regs.rdi = wanted_break;
	} else {
		regs.rax = (unsigned long long)value;
	}
	if (ptrace(PTRACE_SETREGS, child, NULL, &regs) < 0)
		die("PTRACE_SETREGS");
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

/* Which errno the call that is entered gets, or 0. */
static int answer(pid_t child, struct run *run, const struct __ptrace_syscall_info *info)
{
	long number = (long)info->entry.nr;

	if (number == __NR_futex) /* libc aborts for an error that it cannot get */
		return 0;
	if (the.mark && !the.marked) {
		struct run seen = { .number = number };

		describe(child, &seen, info->entry.args);
		if (!strstr(seen.detail, the.mark))
			return 0;
		the.marked = true;
	}
	run->calls++;
	if (the.mode == DENY_MODE ? number == run->number : run->calls == run->at) {
		run->fired = true;
		if (the.mode == DENY_MODE)
			return run->error;
		run->number = number;
		pick_error(run);
		describe(child, run, info->entry.args);
		return run->error;
	}
	if (the.block_devices && !the.refused && number == __NR_fsconfig &&
	    info->entry.args[1] == CMD_CREATE) {
		the.refused = true;
		return ENOTBLK;
	}
	return 0;
}

static void trace(pid_t child, struct run *run)
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
	int status, error = 0;

	if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status))
		die("no exec");
	if (ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)options) < 0)
		die("PTRACE_SETOPTIONS");
	resume(child, PTRACE_SYSCALL, 0);
	while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
		struct __ptrace_syscall_info info = { 0 };

		if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
			resume(child, PTRACE_SYSCALL, WSTOPSIG(status));
			continue;
		}
		if (ptrace(PTRACE_GET_SYSCALL_INFO, child, (void *)sizeof(info), &info) < 0)
			die("PTRACE_GET_SYSCALL_INFO");
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
			/* exit_group cannot fail */
			if (info.entry.nr == __NR_exit_group && the.mode != KILL_MODE) {
				resume(child, PTRACE_CONT, 0);
				continue;
			}
			error = answer(child, run, &info);
			if (error && run->fired && the.mode == KILL_MODE) {
				kill(child, SIGKILL);
				continue;
			}
			if (error)
				set_register(child, true, -1);
		} else if (error) {
			set_register(child, false, -error);
			error = 0;
			if (run->fired && the.mode == ERROR_MODE) {
				resume(child, PTRACE_CONT, 0);
				continue;
			}
		}
		resume(child, PTRACE_SYSCALL, 0);
	}
	run->status = status;
}

_Noreturn static void become_program(bool traced)
{
	dup2(the.out, STDOUT_FILENO);
	dup2(the.out, STDERR_FILENO);
	alarm(RUN_SECONDS);
	if (!traced || ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
		execv(the.command[0], the.command);
	_exit(CHILD_FAILED);
}

static void execute(struct run *run, bool traced)
{
	pid_t child;

	if (ftruncate(the.out, 0) < 0 || lseek(the.out, 0, SEEK_SET) < 0)
		die("memfd");
	the.refused = false;
	the.marked = false;
	child = fork();
	if (child < 0)
		die("fork");
	if (!child)
		become_program(traced);
	if (traced)
		trace(child, run);
	else if (waitpid(child, &run->status, 0) < 0)
		die("waitpid");
}

/* Takes away what is mounted on the target; how many mounts lay on each other there. */
static int unmount(void)
{
	char now[STATE_MAX], place[600];
	int count = 0;

	if (!the.target)
		return 0;
	snprintf(place, sizeof(place), " / %s ", the.target);
	for (;; count++) {
		int more = 0;

		state(now);
		for (char *at = now; (at = strstr(at, place)); at++)
			more++;
		for (char *at = the.before; (at = strstr(at, place)); at++)
			more--;
		if (more <= 0)
			return count;
		if (umount2(the.target, MNT_DETACH) < 0)
			die(the.target);
	}
}

/* Is what is mounted on the target a whole root? */
static bool is_whole(void)
{
	char now[STATE_MAX], path[600], text[64];
	const char *root;

	if (!the.target)
		return false;
	state(now);
	root = strstr(now, " composefs:");
	snprintf(path, sizeof(path), "%s/etc/os-release", the.target);
	return root && strstr(root, "verity=require") && slurp(path, text, sizeof(text)) > 0;
}

static bool runs_clean(char now[STATE_MAX])
{
	struct run run = { .at = 0 };
	bool whole;

	*the.counter = (struct counter){ 0 };
	execute(&run, false);
	whole = is_whole();
	return unmount() == 1 && whole && run.status == 0 && as_before(now);
}

static void report(const struct run *run)
{
	char now[STATE_MAX], rest[STATE_MAX], text[TEXT_MAX] = "", name[32];
	bool whole = is_whole();
	int mounts = unmount();
	ssize_t said = pread(the.out, text, sizeof(text) - 1, 0);
	bool left = !as_before(now) || (the.gone && access(the.gone, F_OK) == 0);
	bool clean = the.only || the.runs++ % the.every || runs_clean(rest);

	if (said < 0)
		die("memfd");
	snprintf(name, sizeof(name), "?%ld", run->number);
	printf("{\"n\": %lu", run->at);
	print_text("call", run->call ? run->call->name : name);
	print_text("detail", run->detail);
	print_text("errno", error_name(run->error));
	printf(", \"exit\": %d, \"signal\": %d, \"mounts\": %d, \"whole\": %s",
	       WIFEXITED(run->status) ? WEXITSTATUS(run->status) : -1,
	       WIFSIGNALED(run->status) ? WTERMSIG(run->status) : 0, mounts,
	       whole ? "true" : "false");
	print_text("said", text);
	print_text("left", left ? now : "");
	printf(", \"clean\": %s}\n", clean ? "true" : "false");
	fflush(stdout);
}

/* Every errno of the call (with -a), or the one that is due. False: it has no Nth call. */
static bool sweep_call(unsigned long n)
{
	struct run run;
	size_t which = the.all ? 0 : n;

	do {
		run = (struct run){ .at = n, .which = which++ };
		execute(&run, true);
		if (!run.fired) {
			(void)unmount();
			return false;
		}
		report(&run);
	} while (the.all && !run.last);
	return true;
}

static void deny(void)
{
	static const long denied[] = { __NR_openat2, __NR_fsopen, __NR_fsconfig, __NR_fsmount,
				       __NR_move_mount, __NR_open_tree, __NR_mount_setattr,
				       __NR_unshare, __NR_setns, __NR_mount };

	for (size_t i = 0; i < 2 * sizeof(denied) / sizeof(denied[0]); i++) {
		struct run run = { .number = denied[i / 2], .error = i % 2 ? EPERM : ENOSYS };

		run.call = call_of(run.number);
		execute(&run, true);
		if (run.fired)
			report(&run);
		else
			(void)unmount();
	}
}

static void sweep_memory(void)
{
	for (unsigned long n = 1;; n += the.step) {
		struct run run = { .at = n, .error = ENOMEM };

		*the.counter = (struct counter){ .fail_at = n };
		execute(&run, false);
		if (the.counter->count < n) {
			(void)unmount();
			return;
		}
		report(&run);
	}
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

int main(int argc, char **argv)
{
	char number[16];
	int option, memory;

	the.step = 1;
	the.every = 1;
	while ((option = getopt(argc, argv, "m:abc:s:n:f:u:g:")) != -1) {
		switch (option) {
		case 'm': the.mode = mode_of(optarg); break;
		case 'a': the.all = true; break;
		case 'b': the.block_devices = true; break;
		case 'c': the.every = strtoul(optarg, NULL, 10); break;
		case 'n': the.only = strtoul(optarg, NULL, 10); break;
		case 'f': the.mark = optarg; break;
		case 's': the.step = strtoul(optarg, NULL, 10); break;
		case 'u': the.target = optarg; break;
		case 'g': the.gone = optarg; break;
		default: return 2;
		}
	}
	the.command = argv + optind;
	if (!the.command[0] || !(the.target || the.only) || !the.step || !the.every)
		return 2;
	the.out = memfd_create("output", MFD_CLOEXEC);
	memory = memfd_create("counter", 0); /* the program inherits it */
	if (the.out < 0 || memory < 0 || ftruncate(memory, sizeof(*the.counter)) < 0)
		die("memfd_create");
	the.counter = mmap(NULL, sizeof(*the.counter), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (the.counter == MAP_FAILED)
		die("mmap");
	snprintf(number, sizeof(number), "%d", memory);
	if (the.mode == MEMORY_MODE)
		setenv("CFS_TEST_ALLOCATIONS", number, 1);
	else
		close(memory);
	state(the.before);
	switch (the.mode) {
	case DENY_MODE: deny(); break;
	case MEMORY_MODE: sweep_memory(); break;
	default:
		for (unsigned long n = the.only ? the.only : 1; sweep_call(n) && !the.only; n++)
			;
	}
	return 0;
}
