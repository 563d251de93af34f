// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * dumptree DIR: all that a file tree shows, one line for each file, to be compared with the source:
 *   PATH MODE UID GID MTIME <link target, content or "-"> [NAME=VALUE]...
 * Path, target, content and values of xattrs in hex; the mode in octal. A failure of a file stands in
 * its line, by the name of the errno, and the exit code is 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static size_t prefix;
static int failures;

static void hex(const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		printf("%02x", (unsigned char)bytes[i]);
	if (!length)
		putchar('-');
}

static void fault(void)
{
	printf("%s", strerrorname_np(errno));
	failures = 1;
}

static void content(const char *path)
{
	static char buffer[1 << 16];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t got = -1;

	if (fd >= 0) {
		while ((got = read(fd, buffer, sizeof(buffer))) > 0)
			hex(buffer, (size_t)got);
	}
	if (got < 0)
		fault();
	if (fd >= 0)
		close(fd);
}

static void xattrs(const char *path)
{
	char names[4096], value[4096];
	ssize_t length = llistxattr(path, names, sizeof(names));

	if (length < 0) {
		putchar(' ');
		fault();
		return;
	}
	for (char *name = names; name < names + length; name += strlen(name) + 1) {
		ssize_t size = lgetxattr(path, name, value, sizeof(value));

		printf(" %s=", name);
		if (size < 0)
			fault();
		else
			hex(value, (size_t)size);
	}
}

static int show(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	char target[4096];

	(void)kind;
	(void)walk;
	hex(path + prefix, strlen(path + prefix));
	printf(" %o %u %u %lld ", st->st_mode, st->st_uid, st->st_gid, (long long)st->st_mtime);
	if (S_ISREG(st->st_mode)) {
		content(path);
	} else if (S_ISLNK(st->st_mode)) {
		ssize_t length = readlink(path, target, sizeof(target));

		if (length < 0)
			fault();
		else
			hex(target, (size_t)length);
	} else {
		putchar('-');
	}
	xattrs(path);
	putchar('\n');
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	prefix = strlen(argv[1]);
	if (nftw(argv[1], show, 32, FTW_PHYS)) {
		perror(argv[1]);
		return 1;
	}
	return failures;
}
