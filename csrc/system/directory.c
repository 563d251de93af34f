/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#define _GNU_SOURCE
#include "../cfs.h"
#include "sys.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

/* struct linux_dirent64 of getdents64(2): 8 bytes each of inode and offset, then these. */
enum { RECORD_LENGTH = 16, RECORD_TYPE = 18, RECORD_NAME = 19 };

/* 'd', 'f', or 0 for what is neither. */
static int kind_of(int fd, const char *name, unsigned int type)
{
	struct stat status;
	int error;

	if (type == DT_UNKNOWN) { /* an image whose entries have no types */
		error = sys_fstatat(fd, name, &status);
		if (error < 0)
			return error;
		type = IFTODT(status.st_mode);
	}
	return type == DT_DIR ? 'd' : type == DT_REG ? 'f' : 0;
}

int cfs_directory_names(int fd, char *names, size_t capacity, size_t *length)
{
	int got = sys_getdents(fd, names, capacity);
	size_t at = 0, size = got < 0 ? 0 : (size_t)got;

	*length = 0;
	while (at < size) {
		const char *name = names + at + RECORD_NAME;
		unsigned int type = (unsigned char)names[at + RECORD_TYPE];
		size_t name_size = strlen(name) + 1;
		uint16_t record;
		int kind;

		memcpy(&record, names + at + RECORD_LENGTH, sizeof(record));
		at += record;
		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			continue;
		kind = kind_of(fd, name, type);
		if (kind < 0)
			return kind;
		if (kind == 0)
			continue;
		/* In place: what is written is shorter than the record that it is of. */
		names[(*length)++] = (char)kind;
		memmove(names + *length, name, name_size);
		*length += name_size;
	}
	return got < 0 ? got : got > 0;
}

static int keep(struct cfs_names *kept, const char *name)
{
	size_t at = kept->count, size = strlen(name) + 1;

	if (size > CFS_NAME_SIZE)
		return -ENAMETOOLONG;
	while (at > 0 && strcmp(name, kept->name[at - 1]) < 0)
		at--;
	if (kept->count < CFS_FEW)
		kept->count++;
	else
		kept->more = true;
	if (at == kept->count)
		return 0;
	memmove(kept->name[at + 1], kept->name[at], (kept->count - 1 - at) * CFS_NAME_SIZE);
	memcpy(kept->name[at], name, size);
	return 0;
}

int cfs_directory_first(int fd, struct cfs_names *directories, struct cfs_names *files)
{
	char names[CFS_NAMES_MAX];
	size_t length;
	int more, error;

	directories->count = files->count = 0;
	directories->more = files->more = false;
	do {
		more = cfs_directory_names(fd, names, sizeof(names), &length);
		for (size_t at = 0; more > 0 && at < length; at += strlen(names + at) + 1) {
			error = keep(names[at] == 'd' ? directories : files, names + at + 1);
			if (error < 0)
				return error;
		}
	} while (more > 0);
	return more;
}
