// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What a call is about, for the account and for marks. */
#define _GNU_SOURCE
#include "inject.h"

#include <asm/unistd.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

static void peek(pid_t child, uint64_t address, char *room, size_t size)
{
	struct iovec here = { room, size - 1 };
	struct iovec there = { (void *)address, size - 1 };
	ssize_t got = address ? process_vm_readv(child, &here, 1, &there, 1, 0) : -1;

	room[got < 0 ? 0 : got] = '\0';
}

/* What a descriptor is open on; nothing where it is none. */
static void peek_fd(pid_t child, uint64_t fd, char *room, size_t size)
{
	char link[64];
	ssize_t got;

	snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)child, (int)fd);
	got = readlink(link, room, size - 1);
	room[got < 0 ? 0 : got] = '\0';
}

void describe(pid_t child, long number, const uint64_t *args, char *room, size_t size)
{
	char path[256], above[200];

	switch (number) {
	case __NR_openat: case __NR_openat2: case __NR_newfstatat: case __NR_mkdirat:
	case __NR_unlinkat: case __NR_readlinkat: case __NR_faccessat: case __NR_renameat:
		peek(child, args[1], path, sizeof(path));
		above[0] = '\0';
		if (path[0] != '/')
			peek_fd(child, args[0], above, sizeof(above));
		if (above[0])
			snprintf(room, size, "%d %s %s", (int)args[0], above, path);
		else
			snprintf(room, size, "%s", path);
		break;
	case __NR_symlinkat:
		peek(child, args[2], room, size);
		break;
#ifdef __x86_64__
	case __NR_symlink:
		peek(child, args[1], room, size);
		break;
	case __NR_open: case __NR_stat: case __NR_lstat: case __NR_mkdir: case __NR_rename:
	case __NR_unlink: case __NR_readlink: case __NR_access:
#endif
	case __NR_chdir: case __NR_fsopen: case __NR_getxattr: case __NR_lgetxattr:
	case __NR_umount2: case __NR_execve: case __NR_pivot_root:
		peek(child, args[0], room, size);
		break;
	case __NR_fsconfig:
		peek(child, args[2], room, size);
		if (!room[0])
			snprintf(room, size, "command %u", (unsigned)args[1]);
		break;
	default:
		peek_fd(child, args[0], path, sizeof(path));
		snprintf(room, size, "%d %s %#llx", (int)args[0], path,
			 (unsigned long long)args[1]);
	}
}
