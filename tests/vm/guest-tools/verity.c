// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * What guests need and busybox lacks. One static program, named by argv[0]:
 *   verity-enable [--hash sha256|sha512] [--block-size N] [--salt HEX] FILE...
 *   measure FILE         <algorithm>:<digest>
 *   readall FILE         reads to the end; prints the number of bytes
 *   fds [PID]            open descriptors, one a line, by number and target
 * A failure prints the name of the errno ("EIO") on stderr and exits 1; wrong use exits 2.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fsverity.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DIGEST_MAX 64
#define SALT_MAX 32

static int failed(const char *what, const char *path)
{
	fprintf(stderr, "%s: %s: %s\n", what, path, strerrorname_np(errno));
	return 1;
}

static int usage(void)
{
	fputs("wrong use, see verity.c\n", stderr);
	return 2;
}

static const char *algorithm_name(unsigned int algorithm)
{
	switch (algorithm) {
	case FS_VERITY_HASH_ALG_SHA256:
		return "sha256";
	case FS_VERITY_HASH_ALG_SHA512:
		return "sha512";
	default:
		return "unknown";
	}
}

static int parse_salt(const char *hex, uint8_t salt[SALT_MAX], uint32_t *size)
{
	size_t length = strlen(hex);

	if (length % 2 || length / 2 > SALT_MAX)
		return -1;
	for (size_t i = 0; i < length / 2; i++) {
		unsigned int byte;

		if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
			return -1;
		salt[i] = (uint8_t)byte;
	}
	*size = (uint32_t)(length / 2);
	return 0;
}

static int enable(char **argument)
{
	uint8_t salt[SALT_MAX];
	struct fsverity_enable_arg arg = {
		.version = 1,
		.hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
		.block_size = 4096,
		.salt_ptr = (uintptr_t)salt,
	};

	for (; *argument && !strncmp(*argument, "--", 2); argument += 2) {
		const char *value = argument[1];

		if (!value)
			return usage();
		if (!strcmp(*argument, "--hash") && !strcmp(value, "sha512"))
			arg.hash_algorithm = FS_VERITY_HASH_ALG_SHA512;
		else if (!strcmp(*argument, "--hash") && !strcmp(value, "sha256"))
			arg.hash_algorithm = FS_VERITY_HASH_ALG_SHA256;
		else if (!strcmp(*argument, "--block-size"))
			arg.block_size = (uint32_t)strtoul(value, NULL, 10);
		else if (strcmp(*argument, "--salt") || parse_salt(value, salt, &arg.salt_size))
			return usage();
	}
	if (!*argument)
		return usage();
	for (; *argument; argument++) {
		/* The kernel refuses while anyone has it open for writing. */
		int fd = open(*argument, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

		if (fd < 0)
			return failed("open", *argument);
		if (ioctl(fd, FS_IOC_ENABLE_VERITY, &arg))
			return failed("enable", *argument);
		close(fd);
	}
	return 0;
}

static int measure(const char *path)
{
	union {
		struct fsverity_digest digest;
		uint8_t room[sizeof(struct fsverity_digest) + DIGEST_MAX];
	} u = { .digest.digest_size = DIGEST_MAX };
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return failed("open", path);
	if (ioctl(fd, FS_IOC_MEASURE_VERITY, &u.digest))
		return failed("measure", path);
	close(fd);
	printf("%s:", algorithm_name(u.digest.digest_algorithm));
	for (unsigned int i = 0; i < u.digest.digest_size; i++)
		printf("%02x", u.room[sizeof(struct fsverity_digest) + i]);
	putchar('\n');
	return 0;
}

static int readall(const char *path)
{
	static char buffer[1 << 16];
	unsigned long long total = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return failed("open", path);
	for (;;) {
		ssize_t got = read(fd, buffer, sizeof(buffer));

		if (got < 0) {
			printf("%llu\n", total);
			fflush(stdout);
			return failed("read", path);
		}
		if (!got)
			break;
		total += (unsigned long long)got;
	}
	close(fd);
	printf("%llu\n", total);
	return 0;
}

static int fds(const char *process)
{
	char path[64], target[4096];

	for (int fd = 0; fd < 1024; fd++) {
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/%s/fd/%d", process, fd);
		length = readlink(path, target, sizeof(target) - 1);
		if (length < 0)
			continue;
		target[length] = '\0';
		printf("%d %s\n", fd, target);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');

	name = name ? name + 1 : argv[0];
	if (!strcmp(name, "verity-enable"))
		return enable(argv + 1);
	if (!strcmp(name, "measure") && argc == 2)
		return measure(argv[1]);
	if (!strcmp(name, "readall") && argc == 2)
		return readall(argv[1]);
	if (!strcmp(name, "fds") && argc <= 2) {
		char parent[16];

		snprintf(parent, sizeof(parent), "%d", (int)getppid());
		return fds(argc == 2 ? argv[1] : parent);
	}
	return usage();
}
