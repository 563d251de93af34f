// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * What the case runner in the guest (cases.py) needs. One static program, named by argv[0]:
 *   limit SECONDS PROGRAM...  runs it in a session of its own; exits with its code, 128 + signal,
 *                             or 124 after killing it (and its process group) at the limit
 *   snapshot                  what a case may leave behind, one a line: "mount <mountinfo line>",
 *                             "loop <device> <backing file>", "process <pid> <command line>",
 *                             "fd <pid> <number> <target>"; kernel threads and itself left out
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMED_OUT 124

static int limit(char **argument)
{
	struct timespec left = { .tv_sec = strtol(argument[0], NULL, 10) };
	sigset_t child_ended;
	int status, timed_out = 0;
	pid_t child;

	sigemptyset(&child_ended);
	sigaddset(&child_ended, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child_ended, NULL);
	child = fork();
	if (child < 0)
		return 125;
	if (!child) {
		sigprocmask(SIG_UNBLOCK, &child_ended, NULL);
		setsid();
		execvp(argument[1], argument + 1);
		_exit(127);
	}
	/* One child: SIGCHLD can mean nothing else than its end (or its stop, which goes on to
	 * the limit as the mask stays). */
	if (sigtimedwait(&child_ended, NULL, &left) < 0 && errno == EAGAIN) {
		timed_out = 1;
		kill(-child, SIGKILL);
	}
	if (waitpid(child, &status, 0) < 0)
		return 125;
	if (timed_out)
		return TIMED_OUT;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static size_t slurp(const char *path, char *room, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, room, size - 1);

	if (fd >= 0)
		close(fd);
	if (got < 0)
		got = 0;
	room[got] = '\0';
	return (size_t)got;
}

static void mounts(void)
{
	static char line[8192];
	FILE *file = fopen("/proc/self/mountinfo", "re");

	while (file && fgets(line, sizeof(line), file))
		printf("mount %s", line);
	if (file)
		fclose(file);
}

static void loops(void)
{
	char path[512], backing[4096];
	DIR *blocks = opendir("/sys/block");
	struct dirent *entry;

	while (blocks && (entry = readdir(blocks))) {
		if (strncmp(entry->d_name, "loop", 4))
			continue;
		snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file", entry->d_name);
		if (slurp(path, backing, sizeof(backing)))
			printf("loop %s %s", entry->d_name, backing);
	}
	if (blocks)
		closedir(blocks);
}

static void descriptors(const char *pid)
{
	char path[600], target[4096];
	struct dirent *entry;
	DIR *fds;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	fds = opendir(path);
	while (fds && (entry = readdir(fds))) {
		ssize_t length = readlinkat(dirfd(fds), entry->d_name, target, sizeof(target) - 1);

		if (length < 0)
			continue;
		target[length] = '\0';
		printf("fd %s %s %s\n", pid, entry->d_name, target);
	}
	if (fds)
		closedir(fds);
}

static void processes(void)
{
	char path[600], command[1024];
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (proc && (entry = readdir(proc))) {
		size_t length;

		if (!isdigit((unsigned char)entry->d_name[0]) || atoi(entry->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
		length = slurp(path, command, sizeof(command));
		if (!length) /* a kernel thread */
			continue;
		for (size_t i = 0; i + 1 < length; i++) {
			if (!command[i] || command[i] == '\n')
				command[i] = ' ';
		}
		printf("process %s %s\n", entry->d_name, command);
		descriptors(entry->d_name);
	}
	if (proc)
		closedir(proc);
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');

	name = name ? name + 1 : argv[0];
	if (!strcmp(name, "limit") && argc >= 3)
		return limit(argv + 1);
	if (strcmp(name, "snapshot") || argc != 1)
		return 2;
	mounts();
	loops();
	processes();
	return 0;
}
