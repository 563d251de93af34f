/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Documentation/filesystems/fsverity.rst, <linux/fsverity.h>. */
#include "cfs.h"
#include "parse/digest.h"
#include "sys.h"

#include <errno.h>
#include <linux/fsverity.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>

#ifndef F2FS_SUPER_MAGIC
#define F2FS_SUPER_MAGIC 0xF2F52010
#endif

/* Is it the kernel that measures? FUSE passes the question on (fuse_setup_measure_verity()), and
 * its server, or a virtual machine's host, answers what it likes and serves other bytes. */
static int kernel_measures(int fd)
{
	struct statfs fs;
	int error = sys_fstatfs(fd, &fs);

	if (error < 0)
		return error;
	switch ((uint32_t)fs.f_type) {
	case EXT4_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case F2FS_SUPER_MAGIC: return 0;
	default: return -EOPNOTSUPP;
	}
}

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

	error = kernel_measures(fd);
	if (error < 0)
		return error;
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
	return error;
}
