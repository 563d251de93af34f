/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The fs-verity digest of a file that has none from the kernel: its Merkle tree, of which nothing is
 * kept but one block of each level, and the descriptor with the root hash and the size
 * (Documentation/filesystems/fsverity.rst). Blocks of 4096 bytes, no salt: as composefs names objects.
 */
#include "../cfs.h"
#include "digest.h"

#include <errno.h>
#include <string.h>

enum {
	BLOCK = 4096,
	BLOCK_LOG = 12,
	BLOCKS_AT_ONCE = 8,
	/* 2^28 blocks; of the longer hash 2^6 are in a block: so five levels, and the root above */
	LEVELS = 6,
	SIZE_LOG_MAX = 40,
	DESCRIPTOR_SIZE = 256,
	DESCRIPTOR_VERSION = 1,
	SIZE_OFFSET = 8,
	ROOT_OFFSET = 16,
};

struct tree {
	struct cfs_sha sha;
	size_t hash_size;
	size_t levels;
	struct level {
		uint64_t hashes; /* all that it had */
		size_t used;     /* bytes of the block that is being filled */
		uint8_t block[BLOCK];
	} level[LEVELS];
};

static void hash(struct tree *tree, const uint8_t *data, size_t size, uint8_t out[CFS_DIGEST_MAX])
{
	cfs_sha_again(&tree->sha);
	cfs_sha_add(&tree->sha, data, size);
	(void)cfs_sha_end(&tree->sha, out);
}

/* The hash of a block of the level below; each block that it fills goes one level up. */
static void add_hash(struct tree *tree, const uint8_t *block, size_t at)
{
	uint8_t out[CFS_DIGEST_MAX];

	for (;; at++) {
		struct level *here = &tree->level[at];

		hash(tree, block, BLOCK, out);
		if (at == tree->levels) {
			here->hashes = 0;
			here->used = 0;
			tree->levels++;
		}
		memcpy(here->block + here->used, out, tree->hash_size);
		here->used += tree->hash_size;
		here->hashes++;
		if (here->used < BLOCK)
			return;
		here->used = 0;
		block = here->block;
	}
}

/* The levels' last blocks are filled up with zeros. The one with a single hash has the root's. */
static const uint8_t *root_hash(struct tree *tree)
{
	static const uint8_t empty[CFS_DIGEST_MAX]; /* that of no data */

	for (size_t at = 0; at < tree->levels; at++) {
		struct level *here = &tree->level[at];

		if (here->hashes == 1)
			return here->block;
		if (here->used > 0) {
			memset(here->block + here->used, 0, BLOCK - here->used);
			add_hash(tree, here->block, at + 1);
		}
	}
	return empty;
}

static int add_data(struct tree *tree, cfs_read_at read, void *context, uint64_t size)
{
	uint8_t data[BLOCKS_AT_ONCE * BLOCK];

	for (uint64_t offset = 0; offset < size; offset += sizeof(data)) {
		uint64_t left = size - offset;
		size_t length = left < sizeof(data) ? (size_t)left : sizeof(data);
		int error = read(context, offset, data, length);

		if (error < 0)
			return error;
		memset(data + length, 0, sizeof(data) - length);
		for (size_t at = 0; at < length; at += BLOCK)
			add_hash(tree, data + at, 0);
	}
	return 0;
}

int cfs_merkle_digest(cfs_read_at read, void *context, uint64_t size, uint16_t algorithm,
		      struct cfs_digest *out)
{
	uint8_t descriptor[DESCRIPTOR_SIZE] = { DESCRIPTOR_VERSION, (uint8_t)algorithm, BLOCK_LOG };
	struct tree tree;
	int error;

	tree.hash_size = cfs_digest_size(algorithm);
	tree.levels = 0;
	if (tree.hash_size == 0)
		return -EPROTONOSUPPORT;
	if (size >> SIZE_LOG_MAX != 0)
		return -EFBIG;
	(void)cfs_sha_begin(&tree.sha,
			    algorithm == CFS_SHA256 ? CFS_BANK_SHA256 : CFS_BANK_SHA512);
	error = add_data(&tree, read, context, size);
	if (error < 0)
		return error;
	for (size_t i = 0; i < sizeof(size); i++)
		descriptor[SIZE_OFFSET + i] = (uint8_t)(size >> 8 * i);
	memcpy(descriptor + ROOT_OFFSET, root_hash(&tree), tree.hash_size);
	*out = (struct cfs_digest){ .algorithm = algorithm, .size = (uint16_t)tree.hash_size };
	hash(&tree, descriptor, sizeof(descriptor), out->bytes);
	return 0;
}
