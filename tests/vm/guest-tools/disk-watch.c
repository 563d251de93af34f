// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * Has the kernel list who walks into, opens, asks about or executes what is on a block device:
 * failed and cached look-ups included. tests/vm/disk_watch.py reads the list.
 *
 * As PID 1 (rdinit=/disk-watch) it begins, executes /init, and leaves a process behind that waits
 * until a composed root is attached, and then puts the list to /run/disk-watch.
 * Else: `disk-watch start`, `disk-watch stop`.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOUNTINFO_MAX (1 << 17)
#define KEEPER "@disk-watch" /* who kills what an initrd leaves spares names like this one */
#define RESULT "disk-watch"
#define NEW RESULT ".new"
#define END "disk-watch: whole\n"

/* Only a number of 2^20 and more has a major: the rest is memory, procfs, overlays. */
#define ON_A_DISK "dev >= 1048576"
#define INODE(inode) "dev=" inode "i_sb->s_dev:u32 ino=" inode "i_ino:u64"

/* How the kernel calls the function behind a system call. */
#ifdef __aarch64__
#define SYSTEM_CALL "__arm64_sys_"
#else
#define SYSTEM_CALL "__x64_sys_"
#endif

/* `look` tells names. Were it to miss one, the others tell all the same that somebody was there. */
static const struct {
	const char *name;
	const char *probe;
	const char *filter;
} EVENTS[] = {
	/* each directory in which a name is looked for, and each check of a right */
	{ "walk",
	  "p:cfs/walk security_inode_permission comm=$comm " INODE("inode->") " mask=mask:x32",
	  ON_A_DISK },
	{ "look",
	  "p:cfs/look __d_lookup_rcu comm=$comm dev=parent->d_sb->s_dev:u32 "
	  "ino=parent->d_inode->i_ino:u64 name=+0(+8($arg2)):string",
	  ON_A_DISK },
	{ "open", "p:cfs/open security_file_open comm=$comm " INODE("file->f_inode->"), ON_A_DISK },
	{ "stat",
	  "p:cfs/stat security_inode_getattr comm=$comm " INODE("path->dentry->d_inode->"),
	  ON_A_DISK },
	{ "exec", "p:cfs/exec security_bprm_check comm=$comm " INODE("bprm->file->f_inode->"),
	  ON_A_DISK },
	/* where ours leaves its own namespace, and where it attaches */
	{ "setns", "p:cfs/setns " SYSTEM_CALL "setns comm=$comm", NULL },
	{ "attach", "p:cfs/attach " SYSTEM_CALL "move_mount comm=$comm", NULL },
};
#define COUNT (sizeof(EVENTS) / sizeof(*EVENTS))

static int fail(const char *what)
{
	fputs("disk-watch: ", stderr);
	perror(what);
	return -1;
}

static int put(int tracing, const char *name, const char *text, int flags)
{
	int fd = openat(tracing, name, O_WRONLY | O_CLOEXEC | flags);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (!done) {
		(void)fail(name);
		fprintf(stderr, "disk-watch: %s\n", text);
	}
	if (fd >= 0)
		close(fd);
	return done ? 0 : -1;
}

/* A mount of it that nobody sees. */
static int fs_open(const char *type)
{
	int context = fsopen(type, FSOPEN_CLOEXEC);
	int root = -1;

	if (context >= 0 && !fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		root = fsmount(context, FSMOUNT_CLOEXEC, 0);
	return root < 0 ? fail(type) : root;
}

static int begin(int tracing)
{
	char filter[64];

	/* A full buffer keeps what was first. */
	if (tracing < 0 || put(tracing, "options/overwrite", "0", 0) ||
	    put(tracing, "buffer_size_kb", "8192", 0) || put(tracing, "trace_clock", "global", 0))
		return -1;
	for (size_t i = 0; i < COUNT; i++) {
		if (put(tracing, "kprobe_events", EVENTS[i].probe, O_APPEND))
			return -1;
		(void)snprintf(filter, sizeof(filter), "events/cfs/%s/filter", EVENTS[i].name);
		if (EVENTS[i].filter && put(tracing, filter, EVENTS[i].filter, 0))
			return -1;
	}
	return put(tracing, "events/cfs/enable", "1", 0) || put(tracing, "tracing_on", "1", 0);
}

static int end(int tracing, int out)
{
	static char buffer[1 << 16];
	ssize_t count = -1;
	int trace;

	if (tracing < 0 || put(tracing, "tracing_on", "0", 0))
		return -1;
	trace = openat(tracing, "trace", O_RDONLY | O_CLOEXEC);
	while (trace >= 0 && (count = read(trace, buffer, sizeof(buffer))) > 0)
		if (write(out, buffer, (size_t)count) != count)
			return fail("the list");
	if (count < 0 || write(out, END, strlen(END)) != (ssize_t)strlen(END))
		return fail("the list");
	return 0;
}

/* Until a composed root is there. /run is opened as soon as it is a mount: it moves later. */
static int keep(int tracing)
{
	static char text[MOUNTINFO_MAX];
	int proc = fs_open("proc");
	int mountinfo = openat(proc, "self/mountinfo", O_RDONLY | O_CLOEXEC);
	struct pollfd change = { .fd = mountinfo, .events = POLLPRI };
	int run = -1;
	int out;

	for (;;) {
		ssize_t count = pread(mountinfo, text, sizeof(text) - 1, 0);

		if (count < 0)
			return fail("mountinfo");
		text[count] = '\0';
		if (run < 0 && strstr(text, " / /run "))
			run = open("/run", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (run >= 0 && strstr(text, " - overlay composefs:"))
			break;
		(void)poll(&change, 1, 200);
	}
	out = openat(run, NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (out < 0 || end(tracing, out) || renameat(run, NEW, run, RESULT))
		return fail("/run/" RESULT);
	return 0;
}

static int as_init(char **argv)
{
	static char init[] = "/init";
	char fd[16];
	int tracing = fs_open("tracefs");

	if (begin(tracing))
		fputs("disk-watch: nothing is watched\n", stderr);
	else if (fork() == 0) {
		(void)fcntl(tracing, F_SETFD, 0);
		(void)snprintf(fd, sizeof(fd), "%d", tracing);
		(void)execl(argv[0], KEEPER, "keep", fd, (char *)NULL);
		_exit(1);
	}
	if (tracing >= 0)
		close(tracing);
	argv[0] = init;
	(void)execv(init, argv);
	return fail(init);
}

int main(int argc, char **argv)
{
	if (getpid() == 1)
		return as_init(argv) ? 1 : 0;
	if (argc == 3 && !strcmp(argv[1], "keep"))
		return keep(atoi(argv[2])) ? 1 : 0;
	if (argc == 2 && !strcmp(argv[1], "start"))
		return begin(fs_open("tracefs")) ? 1 : 0;
	if (argc == 2 && !strcmp(argv[1], "stop"))
		return end(fs_open("tracefs"), STDOUT_FILENO) ? 1 : 0;
	fputs("usage: disk-watch start|stop\n", stderr);
	return 1;
}
