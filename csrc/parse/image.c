/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The header that mkcomposefs writes before the EROFS superblock (composefs: libcomposefs/erofs.h),
 * and as much of the superblock (Linux: fs/erofs/erofs_fs.h) as says how large the image is.
 */
#include "cfs.h"
#include "le.h"

#include <errno.h>

enum {
	COMPOSEFS_MAGIC_OFFSET = 0,
	COMPOSEFS_VERSION_OFFSET = 4,
	COMPOSEFS_FLAGS_OFFSET = 8,
	COMPOSEFS_FORMAT_OFFSET = 12,
	COMPOSEFS_VERSION = 1,
	COMPOSEFS_FLAG_HAS_ACL = 1,

	EROFS_OFFSET = 1024,
	EROFS_BLOCK_BITS_OFFSET = EROFS_OFFSET + 12,
	EROFS_BLOCKS_OFFSET = EROFS_OFFSET + 36,
	EROFS_BLOCK_BITS_MIN = 9,
	EROFS_BLOCK_BITS_MAX = 16,
};

static const uint32_t COMPOSEFS_MAGIC = 0xd078629a;
static const uint32_t EROFS_MAGIC = 0xe0f5e1e2;

int cfs_image_header_parse(const void *data, size_t size, struct cfs_image_header *out)
{
	const uint8_t *bytes = data;
	uint8_t block_bits;

	if (size < CFS_IMAGE_HEADER_SIZE)
		return -EMSGSIZE;

	*out = (struct cfs_image_header){ .has_acl = true };
	out->erofs_magic = le32(bytes + EROFS_OFFSET);
	if (le32(bytes + COMPOSEFS_MAGIC_OFFSET) == COMPOSEFS_MAGIC) {
		if (le32(bytes + COMPOSEFS_VERSION_OFFSET) != COMPOSEFS_VERSION)
			return -EPROTONOSUPPORT;
		out->composefs = true;
		out->composefs_version = le32(bytes + COMPOSEFS_FORMAT_OFFSET);
		out->has_acl = le32(bytes + COMPOSEFS_FLAGS_OFFSET) & COMPOSEFS_FLAG_HAS_ACL;
	}

	block_bits = bytes[EROFS_BLOCK_BITS_OFFSET];
	if (out->erofs_magic != EROFS_MAGIC || block_bits < EROFS_BLOCK_BITS_MIN ||
	    block_bits > EROFS_BLOCK_BITS_MAX)
		return -EBADMSG;
	out->size = (uint64_t)le32(bytes + EROFS_BLOCKS_OFFSET) << block_bits;
	return 0;
}
