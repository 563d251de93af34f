/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The search for a file in an image: it ends, reads inside of the image, and gives a path that a
 * system call may take; the same one with reads that fail, or none. */
#include "fuzz.h"
#include "cfs.h"

#include <errno.h>
#include <string.h>

enum { ROOM = 64 << 10 }; /* zeros behind the data: blocks may lie far apart */

struct reader {
	const uint8_t *data;
	size_t size;
	uint64_t promised;
	int left; /* reads before one fails; -1: none does */
};

static int read_some(void *context, uint64_t offset, void *buffer, size_t length)
{
	struct reader *reader = context;
	size_t there = offset < reader->size ? reader->size - (size_t)offset : 0;

	PROMISE(length > 0 && length <= 4096);
	PROMISE(offset <= reader->promised && length <= reader->promised - offset);
	if (reader->left == 0)
		return -EIO;
	if (reader->left > 0)
		reader->left--;
	memset(buffer, 0, length);
	if (there)
		memcpy(buffer, reader->data + offset, there < length ? there : length);
	return 0;
}

static void check_path(const char *path)
{
	size_t length = strnlen(path, CFS_PATH_MAX);

	PROMISE(length > 0 && length < CFS_PATH_MAX);
	for (const char *part = path; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL) {
		size_t size = strcspn(part, "/");

		PROMISE(size > 0 && size <= 255);
		PROMISE(strncmp(part, ".", size) != 0 && strncmp(part, "..", size) != 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t more[] = { 0, ROOM };
	char path[CFS_PATH_MAX], again[CFS_PATH_MAX];
	const char *why;

	for (size_t i = 0; i < 2; i++) {
		struct reader reader = { data, size, size + more[i], -1 };
		int found = cfs_canary_find(read_some, &reader, reader.promised, path, &why);

		PROMISE(found == 0 || found == 1 || found == -EBADMSG || found == -EOPNOTSUPP ||
			found == -ENAMETOOLONG);
		PROMISE((found == -EBADMSG || found == -EOPNOTSUPP) == (why != NULL));
		if (found == 1)
			check_path(path);
		for (reader.left = 0; reader.left < 4;) {
			int reads = reader.left;
			int failed = cfs_canary_find(read_some, &reader, reader.promised, again, &why);

			PROMISE(failed == -EIO || failed == found);
			PROMISE(failed != 1 || strcmp(path, again) == 0);
			reader.left = reads + 1;
		}
	}
	return 0;
}
