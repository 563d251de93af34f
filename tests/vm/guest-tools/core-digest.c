// SPDX-License-Identifier: Apache-2.0 OR MIT
/* core-digest ALGORITHM FILE...: seals each file by the core, and prints what the core measures. */
#include "cfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int seal(const char *path, uint16_t algorithm)
{
	struct cfs_digest digest;
	char hex[CFS_DIGEST_HEX_MAX];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int error = fd < 0 ? -errno : cfs_verity_enable(fd, algorithm, 4096);

	if (!error)
		error = cfs_verity_measure(fd, &digest);
	if (!error)
		error = cfs_digest_format(&digest, hex);
	if (fd >= 0)
		close(fd);
	if (error) {
		fprintf(stderr, "%s: %s\n", path, strerror(-error));
		return 1;
	}
	printf("%d %s %s\n", digest.algorithm, hex, path);
	return 0;
}

int main(int argc, char **argv)
{
	int result = 0;

	for (int i = 2; i < argc; i++)
		result |= seal(argv[i], (uint16_t)atoi(argv[1]));
	return result;
}
