/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The header of an image, from memory and from a file. */
#include "fuzz.h"
#include "cfs.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cfs_image_header header = { 0 }, read = { 0 };
	int result = cfs_image_header_parse(data, size, &header);

	PROMISE(result == 0 || result == -EMSGSIZE || result == -EBADMSG ||
		result == -EPROTONOSUPPORT);
	PROMISE((result == -EMSGSIZE) == (size < CFS_IMAGE_HEADER_SIZE));
	PROMISE(cfs_image_header_read(fuzz_file(data, size), &read) == result);
	if (result == -EMSGSIZE)
		return 0;

	PROMISE(read.erofs_magic == header.erofs_magic && read.size == header.size);
	PROMISE(!memcmp(&header.erofs_magic, data + 1024, 4));
	PROMISE(header.composefs || (header.has_acl && header.composefs_version == 0));
	/* 2^32 blocks of at most 64 KiB */
	PROMISE(header.size < (uint64_t)1 << 48);
	PROMISE(result == 0 || header.size == 0);
	return 0;
}
