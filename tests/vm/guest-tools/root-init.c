// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * /sbin/init of a root image: shows on the console what it finds, each line after its file's name,
 * and powers off. Where the command line has `then=NUMBER` it starts the kernel on the disk instead,
 * by kexec and with that command line.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CONSOLE_OFF = 6, CONSOLE_ON = 7 }; /* SYSLOG_ACTION_* of the kernel */

static void show(const char *path)
{
	char line[4096];
	FILE *file = fopen(path, "re");

	if (!file)
		printf("%s: missing\n", path);
	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		printf("%s: %s\n", path, line);
	}
	if (file)
		fclose(file);
}

static void list(const char *path)
{
	DIR *directory = opendir(path);
	const struct dirent *entry;

	while (directory && (entry = readdir(directory)))
		printf("%s has: %s\n", path, entry->d_name);
	if (directory)
		closedir(directory);
}

static void write_to(const char *path)
{
	FILE *file = fopen(path, "we");

	printf("%s: %s\n", path, file ? "writable" : "not writable");
	if (file)
		fclose(file);
}

/* What disk-watch has listed, where the boot has it: it may be writing still. */
static void show_watched(void)
{
	static char line[4096];
	FILE *file = fopen("/proc/cmdline", "re");

	if (!file || !fgets(line, sizeof(line), file) || !strstr(line, "rdinit=/disk-watch"))
		return;
	fclose(file);
	for (int tenths = 0; tenths < 300 && access("/run/disk-watch", F_OK); tenths++)
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	/* The kernel's own messages would be in the middle of lines. */
	klogctl(CONSOLE_OFF, NULL, 0);
	show("/run/disk-watch");
	fflush(stdout);
	klogctl(CONSOLE_ON, NULL, 0);
}

static void execute(const char *path)
{
	int status = -1;
	pid_t child;

	if (access(path, F_OK))
		return;
	child = fork();
	if (!child) {
		execl(path, path, NULL);
		_exit(127);
	}
	waitpid(child, &status, 0);
	printf("%s: exits %d\n", path, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* /sysroot/next has linux, initrd, and a file for each NUMBER. */
static void start_next(void)
{
	char *number = getenv("then");
	char path[64], line[1024] = "";
	FILE *file;
	int kernel, initrd;

	if (!number)
		return;
	snprintf(path, sizeof(path), "/sysroot/next/%s", number);
	file = fopen(path, "re");
	kernel = open("/sysroot/next/linux", O_RDONLY | O_CLOEXEC);
	initrd = open("/sysroot/next/initrd", O_RDONLY | O_CLOEXEC);
	if (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (!syscall(SYS_kexec_file_load, kernel, initrd, strlen(line) + 1, line, 0UL))
			reboot(RB_KEXEC);
	}
	perror("root-init: kexec");
}

int main(int argc, char **argv)
{
	printf("root-init: pid %d\n", (int)getpid());
	for (int i = 1; i < argc; i++)
		printf("argument: %s\n", argv[i]);
	for (char **variable = environ; *variable; variable++)
		printf("variable: %s\n", *variable);
	show("/sys/module/sha256_ssse3/initstate");
	show("/sys/module/sha2_ce/initstate"); /* arm64 */
	show("/sys/module/overlay/parameters/redirect_max");
	show("/sys/module/loop/parameters/max_part");
	show("/sys/module/loop/parameters/max_loop");
	show("/proc/self/mountinfo");
	show("/run/cfs/root.json");
	show("/run/cfs/initrd.json");
	show("/sys/class/tpm/tpm0/pcr-sha256/15");
	show("/etc/hostname");
	show("/sysroot/marker");
	list("/");
	list("/proc/self/fd");
	write_to("/etc/new");
	write_to("/var/new");
	write_to("/usr/new");
	write_to("/sysroot/new");
	show_watched();
	execute("/var/true"); // where a test has put one
	printf("root-init: done\n");
	fflush(stdout);
	start_next();
	reboot(RB_POWER_OFF);
	return 1;
}
