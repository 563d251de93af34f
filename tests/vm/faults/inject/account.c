// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What a run left, what it said, and whether another one works after it: a line of JSON. */
#define _GNU_SOURCE
#include "calls.h"
#include "inject.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	STATE_MAX = 65536,
	TEXT_MAX = 8192,
};

static char before[STATE_MAX];

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

void account_begin(void)
{
	state(before);
}

/* Is all as before? A mount that nobody holds goes a moment after its last process. */
static bool as_before(char now[STATE_MAX])
{
	for (int tries = 0; tries < 500; tries++) {
		state(now);
		if (!strcmp(now, before))
			return true;
		usleep(2000);
	}
	return false;
}

int account_unmount(void)
{
	char now[STATE_MAX], place[600];
	int count = 0;

	if (!options.target)
		return 0;
	snprintf(place, sizeof(place), " / %s ", options.target);
	for (;; count++) {
		int more = 0;

		state(now);
		for (char *at = now; (at = strstr(at, place)); at++)
			more++;
		for (char *at = before; (at = strstr(at, place)); at++)
			more--;
		if (more <= 0)
			return count;
		if (umount2(options.target, MNT_DETACH) < 0)
			die(options.target);
	}
}

/* Is what is mounted on the target a whole root? */
static bool is_whole(void)
{
	char now[STATE_MAX], path[600], text[64];
	const char *root;

	if (!options.target)
		return false;
	state(now);
	root = strstr(now, " composefs:");
	snprintf(path, sizeof(path), "%s/etc/os-release", options.target);
	return root && strstr(root, "verity=require") && slurp(path, text, sizeof(text)) > 0;
}

static bool runs_clean(void)
{
	static unsigned long runs;
	char now[STATE_MAX];
	struct run run = { .at = 0 };
	bool whole;

	/* Without the tracer a first process would empty the initramfs. */
	if (options.only || options.first_process || runs++ % options.every)
		return true;
	execute_plain(&run);
	whole = is_whole();
	return account_unmount() == 1 && whole && run.status == 0 && as_before(now);
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

static void print_truth(const char *key, bool value)
{
	printf(", \"%s\": %s", key, value ? "true" : "false");
}

void account_report(const struct run *run)
{
	char now[STATE_MAX], text[TEXT_MAX] = "", record[TEXT_MAX] = "", name[32];
	const char *error = strerrorname_np(run->error);
	bool whole = is_whole();
	int mounts = account_unmount();
	ssize_t said = pread(output, text, sizeof(text) - 1, 0);
	bool left = !as_before(now) || (options.gone && access(options.gone, F_OK) == 0);

	if (said < 0)
		die("memfd");
	if (options.record) {
		(void)slurp(options.record, record, sizeof(record));
		(void)unlink(options.record);
	}
	snprintf(name, sizeof(name), "?%ld", run->number);
	printf("{\"n\": %lu", run->at);
	print_text("call", run->call ? run->call->name : name);
	print_text("detail", run->detail);
	print_text("errno", error ? error : "?");
	printf(", \"exit\": %d, \"signal\": %d, \"mounts\": %d",
	       WIFEXITED(run->status) ? WEXITSTATUS(run->status) : -1,
	       WIFSIGNALED(run->status) ? WTERMSIG(run->status) : 0, mounts);
	print_truth("forked", run->forked);
	print_truth("executed", run->executed);
	print_truth("hung", run->hung);
	print_truth("whole", whole);
	print_text("said", text);
	print_text("record", record);
	print_text("left", left ? now : "");
	print_truth("clean", runs_clean());
	puts("}");
	fflush(stdout);
}
