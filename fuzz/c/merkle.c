/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The digest of a file, beside one that keeps each level of the tree whole; reads lie inside of the
 * file, and one that fails is the result. The input: algorithm, size, and bytes that are repeated. */
#include "fuzz.h"
#include "cfs.h"

#include <errno.h>
#include <string.h>

enum {
	HEAD = 4,
	BLOCK = 4096,
	BLOCKS_MAX = 64 * 3, /* three blocks of the longer hash */
	HASH_MAX = CFS_DIGEST_MAX,
};

struct file {
	const uint8_t *data;
	size_t length;
	uint64_t size;
	int left; /* reads before one fails; -1: none does */
};

static int read_some(void *context, uint64_t offset, void *buffer, size_t length)
{
	struct file *file = context;
	uint8_t *to = buffer;

	PROMISE(length > 0 && offset <= file->size && length <= file->size - offset);
	if (file->left == 0)
		return -EIO;
	if (file->left > 0)
		file->left--;
	for (size_t i = 0; i < length; i++)
		to[i] = file->length ? file->data[(offset + i) % file->length] : 0;
	return 0;
}

static void whole(struct file *file, uint16_t algorithm, uint8_t out[HASH_MAX])
{
	static uint8_t level[BLOCKS_MAX * BLOCK];
	const uint16_t bank = algorithm == CFS_SHA256 ? CFS_BANK_SHA256 : CFS_BANK_SHA512;
	const size_t hash = algorithm == CFS_SHA256 ? 32 : 64;
	uint8_t descriptor[256] = { 1, (uint8_t)algorithm, 12 };
	size_t used = (size_t)file->size;

	memset(level, 0, sizeof(level));
	if (used > 0)
		(void)read_some(file, 0, level, used);
	while (used > 0) {
		size_t blocks = (used + BLOCK - 1) / BLOCK;

		for (size_t i = 0; i < blocks; i++) {
			uint8_t one[HASH_MAX];

			(void)cfs_sha(bank, level + i * BLOCK, BLOCK, one);
			memcpy(level + i * hash, one, hash);
		}
		used = blocks * hash;
		memset(level + used, 0, sizeof(level) - used);
		if (blocks == 1)
			break;
	}
	memcpy(descriptor + 16, level, hash);
	for (size_t i = 0; i < 8; i++)
		descriptor[8 + i] = (uint8_t)(file->size >> 8 * i);
	(void)cfs_sha(bank, descriptor, sizeof(descriptor), out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cfs_digest found;
	uint8_t expected[HASH_MAX];
	struct file file;
	uint16_t algorithm;

	if (size < HEAD)
		return 0;
	algorithm = data[0];
	file = (struct file){
		data + HEAD,
		size - HEAD,
		(data[1] | (uint64_t)data[2] << 8 | (uint64_t)data[3] << 16) % (BLOCKS_MAX * BLOCK + 1),
		-1,
	};
	if (algorithm != CFS_SHA256 && algorithm != CFS_SHA512) {
		PROMISE(cfs_merkle_digest(read_some, &file, file.size, algorithm, &found) ==
			-EPROTONOSUPPORT);
		return 0;
	}
	PROMISE(cfs_merkle_digest(read_some, &file, file.size, algorithm, &found) == 0);
	whole(&file, algorithm, expected);
	PROMISE(found.algorithm == algorithm && found.size == (algorithm == CFS_SHA256 ? 32 : 64));
	PROMISE(memcmp(found.bytes, expected, found.size) == 0);
	PROMISE(cfs_merkle_digest(read_some, &file, 1ULL << 40, algorithm, &found) == -EFBIG);
	if (file.size > 0) {
		file.left = 0;
		PROMISE(cfs_merkle_digest(read_some, &file, file.size, algorithm, &found) == -EIO);
	}
	return 0;
}
