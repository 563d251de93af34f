/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A UKI in a file: what is asked for is read, the rest (128 MB of it) stays on the disk. */
#include "cfs.h"
#include "sys.h"

#include <errno.h>
#include <sys/stat.h>

static int read_fd(void *context, uint64_t offset, void *to, size_t length)
{
	const int *fd = context;

	return sys_pread_exact(*fd, to, length, offset);
}

int cfs_pe_parse_fd(int fd, struct cfs_pe *out, const char **why)
{
	struct stat status;
	int error;

	*why = NULL;
	error = sys_fstat(fd, &status);
	if (error < 0)
		return error;
	if (!S_ISREG(status.st_mode))
		return -EINVAL;
	return cfs_pe_parse(read_fd, &fd, (uint64_t)status.st_size, out, why);
}

int cfs_pe_section_read_fd(int fd, const struct cfs_pe *pe, uint32_t index, void *buffer,
			   size_t capacity)
{
	const struct cfs_pe_section *section;
	int error;

	if (index >= pe->section_count)
		return -EINVAL;
	section = &pe->sections[index];
	if (section->virtual_size == 0 || section->virtual_size > section->raw_size)
		return -EBADMSG;
	if (section->virtual_size > capacity)
		return -EMSGSIZE;
	error = sys_pread_exact(fd, buffer, section->virtual_size, section->raw_pointer);
	return error < 0 ? error : (int)section->virtual_size;
}
