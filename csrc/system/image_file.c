/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* An image in a file. */
#include "cfs.h"
#include "sys.h"

#include <errno.h>
#include <sys/stat.h>

int cfs_image_header_read(int fd, struct cfs_image_header *out)
{
	uint8_t data[CFS_IMAGE_HEADER_SIZE];
	int error = sys_pread_exact(fd, data, sizeof(data), 0);

	if (error == -ENODATA)
		return -EMSGSIZE;
	return error < 0 ? error : cfs_image_header_parse(data, sizeof(data), out);
}

static int read_fd(void *context, uint64_t offset, void *to, size_t length)
{
	const int *fd = context;

	return sys_pread_exact(*fd, to, length, offset);
}

int cfs_merkle_digest_fd(int fd, uint16_t algorithm, struct cfs_digest *out)
{
	struct stat status;
	int error = sys_fstat(fd, &status);

	if (error < 0)
		return error;
	return cfs_merkle_digest(read_fd, &fd, (uint64_t)status.st_size, algorithm, out);
}

int cfs_canary_find_fd(int fd, char path[CFS_PATH_MAX], const char **why)
{
	struct stat status;
	int error;

	*why = NULL;
	error = sys_fstat(fd, &status);
	if (error < 0)
		return error;
	return cfs_canary_find(read_fd, &fd, (uint64_t)status.st_size, path, why);
}
