/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Documentation/filesystems/fsverity.rst, <linux/fsverity.h>. */
#include "cfs.h"
#include "digest.h"
#include "sys.h"

#include <errno.h>
#include <linux/fsverity.h>
#include <string.h>

int cfs_verity_measure(int fd, struct cfs_digest *found)
{
	/* Room for the longest digest always: with 32 bytes the kernel answers a SHA-512 file with
	 * EOVERFLOW, which says nothing of what it is. */
	union {
		struct fsverity_digest head;
		uint8_t room[sizeof(struct fsverity_digest) + CFS_DIGEST_MAX];
	} measured = { .head = { .digest_size = CFS_DIGEST_MAX } };
	struct cfs_digest digest = { 0 };
	int error;

	error = sys_ioctl(fd, FS_IOC_MEASURE_VERITY, &measured);
	if (error == -EOVERFLOW)
		return -EPROTONOSUPPORT;
	if (error < 0)
		return error;

	digest.algorithm = measured.head.digest_algorithm;
	digest.size = measured.head.digest_size;
	if (digest.size == 0 || digest.size != cfs_digest_size(digest.algorithm))
		return -EPROTONOSUPPORT;
	memcpy(digest.bytes, measured.room + sizeof(struct fsverity_digest), digest.size);
	*found = digest;
	return 0;
}

int cfs_verity_enable(int fd, uint16_t algorithm, uint32_t block_size)
{
	struct fsverity_enable_arg argument = {
		.version = 1,
		.hash_algorithm = algorithm,
		.block_size = block_size,
	};
	int error;

	/* A signal ends the building of the Merkle tree, and leaves the file as it was. */
	do {
		error = sys_ioctl(fd, FS_IOC_ENABLE_VERITY, &argument);
	} while (error == -EINTR);
	return error < 0 ? error : 0;
}
