// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * fileattr PATH                  prints the inode flags and the project, as <linux/fs.h> has them
 * fileattr PATH FLAGS PROJECT    sets them
 * fileattr PATH encrypt          an empty directory gets an encryption policy, whose key nobody has
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fscrypt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct fscrypt_policy_v1 policy = {
		.contents_encryption_mode = FSCRYPT_MODE_AES_256_XTS,
		.filenames_encryption_mode = FSCRYPT_MODE_AES_256_CTS,
		.master_key_descriptor = { 'n', 'o', 'b', 'o', 'd', 'y' },
	};
	struct fsxattr project = { 0 };
	int fd = argc > 1 ? open(argv[1], O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
	int flags = 0;

	if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 ||
	    ioctl(fd, FS_IOC_FSGETXATTR, &project) < 0)
		goto failed;
	if (argc == 2)
		return printf("flags %#x project %u\n", (unsigned int)flags, project.fsx_projid) < 0;
	if (argc == 3 && !strcmp(argv[2], "encrypt")) {
		if (ioctl(fd, FS_IOC_SET_ENCRYPTION_POLICY, &policy) < 0)
			goto failed;
		return 0;
	}
	if (argc != 4)
		return 2;
	/* These say how it is stored: without FS_EXTENT_FL ext4 would store it in another way. */
	flags &= FS_EXTENT_FL | FS_INDEX_FL | FS_INLINE_DATA_FL;
	flags |= (int)strtol(argv[2], NULL, 0);
	if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0 ||
	    ioctl(fd, FS_IOC_FSGETXATTR, &project) < 0)
		goto failed;
	if (project.fsx_projid == (unsigned int)strtoul(argv[3], NULL, 0))
		return 0;
	project.fsx_projid = (unsigned int)strtoul(argv[3], NULL, 0);
	if (ioctl(fd, FS_IOC_FSSETXATTR, &project) < 0)
		goto failed;
	return 0;
failed:
	perror("fileattr");
	return 1;
}
