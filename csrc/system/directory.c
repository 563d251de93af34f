/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#define _GNU_SOURCE
#include "../cfs.h"
#include "sys.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* struct linux_dirent64 of getdents64(2): 8 bytes each of inode and offset, then these. */
enum { RECORD_LENGTH = 16, RECORD_TYPE = 18, RECORD_NAME = 19 };

/* For cfs_directory_first(): some twenty names at first, since a few files are often enough. Each
 * page of a larger buffer on the stack is a page fault, which costs more than another call. */
enum { FIRST_PORTION = 512, PORTION = 4096 };

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

/* What one call of getdents64 gave. */
struct portion {
	int fd;
	char *at, *end;
};

/* 'd' or 'f' and the next name, which lies in the portion; 0: no more are in it. */
static int next_name(struct portion *portion, const char **name)
{
	while (portion->at < portion->end) {
		const char *record = portion->at;
		uint16_t length;
		int kind;

		memcpy(&length, record + RECORD_LENGTH, sizeof(length));
		portion->at += length;
		*name = record + RECORD_NAME;
		if ((*name)[0] == '.' && (!(*name)[1] || ((*name)[1] == '.' && !(*name)[2])))
			continue;
		kind = kind_of(portion->fd, *name, (unsigned char)record[RECORD_TYPE]);
		if (kind)
			return kind;
	}
	return 0;
}

int cfs_directory_names(int fd, char *names, size_t capacity, size_t *length)
{
	int got = sys_getdents(fd, names, capacity), kind;
	struct portion portion = { fd, names, names + (got < 0 ? 0 : got) };
	const char *name;

	*length = 0;
	while ((kind = next_name(&portion, &name)) > 0) {
		size_t size = strlen(name) + 1;

		/* In place: what is written is shorter than the record that it is of. */
		names[(*length)++] = (char)kind;
		memmove(names + *length, name, size);
		*length += size;
	}
	return kind < 0 ? kind : got < 0 ? got : got > 0;
}

/* `last`: nothing that is kept sorts behind the name. */
static int keep(struct cfs_names *kept, const char *name, bool last)
{
	size_t at = kept->count, size;

	if (at == CFS_FEW)
		kept->more = true;
	if (at == CFS_FEW && last)
		return 0;
	size = strlen(name) + 1;
	if (size > CFS_NAME_SIZE)
		return -ENAMETOOLONG;
	while (at > 0 && strcmp(name, kept->name[at - 1]) < 0)
		at--;
	if (at == CFS_FEW)
		return 0;
	if (kept->count < CFS_FEW)
		kept->count++;
	memmove(kept->name[at + 1], kept->name[at], (kept->count - 1 - at) * CFS_NAME_SIZE);
	memcpy(kept->name[at], name, size);
	return 0;
}

/* Only names that came in order are skipped: EROFS sorts its directories by bytes, since the kernel
 * looks a name up by halves; other file systems do not. */
int cfs_directory_first(int fd, struct cfs_names *directories, struct cfs_names *files)
{
	char names[PORTION], last[CFS_NAME_SIZE] = "";
	size_t size = FIRST_PORTION;
	bool sorted = true;
	int got;

	directories->count = files->count = 0;
	directories->more = files->more = false;
	while ((got = sys_getdents(fd, names, size)) > 0) {
		struct portion portion = { fd, names, names + got };
		const char *before = last, *name;
		int kind, error;

		while ((kind = next_name(&portion, &name)) > 0) {
			sorted = sorted && strcmp(before, name) < 0;
			error = keep(kind == 'd' ? directories : files, name, sorted);
			if (error < 0)
				return error;
			before = name;
		}
		if (kind < 0)
			return kind;
		if (sorted && files->count == CFS_FEW) {
			directories->more = files->more = true;
			return 0;
		}
		if (strlen(before) >= sizeof(last))
			return -ENAMETOOLONG;
		if (before != last)
			strcpy(last, before);
		size = sizeof(names);
	}
	return got;
}
