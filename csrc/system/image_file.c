/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The header of an image in a file. */
#include "cfs.h"
#include "sys.h"

#include <errno.h>

int cfs_image_header_read(int fd, struct cfs_image_header *out)
{
	uint8_t data[CFS_IMAGE_HEADER_SIZE];
	int error = sys_pread_exact(fd, data, sizeof(data), 0);

	if (error == -ENODATA)
		return -EMSGSIZE;
	return error < 0 ? error : cfs_image_header_parse(data, sizeof(data), out);
}
