// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * The system calls that may be made to fail, each with what its manual page has it answer on a
 * machine that fails: short of memory, descriptors or space, a broken disk, a signal, a filter.
 * Answers of a hostile store (ENOENT, ELOOP, ...) are the matrix's.
 */
#include "calls.h"

#include <asm/unistd.h>
#include <errno.h>

#define CALL(name, ...) { __NR_##name, #name, { __VA_ARGS__ } }

static const struct call calls[] = {
	CALL(brk, ENOMEM),
	CALL(chdir, EIO, ENOMEM, EACCES),
	CALL(chroot, EPERM, ENOMEM),
	CALL(clock_gettime, EINVAL, EPERM), /* of arm64 without the timer that its vDSO reads */
	CALL(clone, EAGAIN, ENOMEM, EPERM, ENOSYS),
	CALL(clone3, EAGAIN, ENOMEM, EPERM, ENOSYS),
	CALL(close, EIO, EINTR),
	CALL(close_range, EINVAL),
	CALL(dup, EMFILE, EINTR),
	CALL(execve, ENOMEM, EIO, EACCES, EMFILE),
	CALL(faccessat, EACCES, EIO, ENOMEM),
	CALL(fchdir, EIO, EACCES),
	CALL(fchmod, EIO, EPERM),
	CALL(fchmodat, EIO, EPERM),
	CALL(fchown, EIO, EPERM, ENOSPC),
	CALL(fchownat, EIO, EPERM, ENOSPC),
	CALL(fcntl, EMFILE, EPERM),
	CALL(fgetxattr, EIO, ENOMEM),
	CALL(finit_module, ENOMEM, EPERM, EINTR),
	CALL(flistxattr, EIO, ENOMEM),
	CALL(fsconfig, ENOMEM, EIO, EPERM, ENOSYS, EINTR),
	CALL(fsetxattr, ENOSPC, ENOMEM, EPERM),
	CALL(fsmount, EMFILE, ENFILE, ENOMEM, EPERM, ENOSYS),
	CALL(fsopen, EMFILE, ENFILE, ENOMEM, EPERM, ENOSYS),
	CALL(fstat, EIO, ENOMEM),
	CALL(fstatfs, EIO, EINTR, ENOMEM, ENOSYS),
	CALL(fsync, EIO, ENOSPC),
	CALL(ftruncate, EIO, EINTR),
	CALL(getcwd, ENOMEM),
	CALL(getdents64, EIO, ENOMEM),
	CALL(getegid, ENOSYS),
	CALL(geteuid, ENOSYS),
	CALL(getgid, ENOSYS),
	CALL(getpid, ENOSYS),
	CALL(getrandom, EAGAIN, ENOSYS),
	CALL(gettid, ENOSYS),
	CALL(getuid, ENOSYS),
	CALL(getxattr, EIO, ENOMEM),
	CALL(ioctl, EIO, ENOMEM, EINTR, EPERM, ENOSYS),
	CALL(lgetxattr, EIO, ENOMEM),
	CALL(listxattr, EIO, ENOMEM),
	CALL(llistxattr, EIO, ENOMEM),
	CALL(lseek, EINVAL),
	CALL(lsetxattr, ENOSPC, ENOMEM, EPERM),
	CALL(madvise, ENOMEM),
	CALL(memfd_create, EMFILE, ENFILE, ENOMEM, EPERM, ENOSYS),
	CALL(mkdirat, ENOSPC, EIO, EROFS, ENOMEM),
	CALL(mmap, ENOMEM, EPERM),
	CALL(mount, ENOMEM, EPERM),
	CALL(mount_setattr, EPERM, ENOSYS),
	CALL(move_mount, ENOMEM, EPERM, ENOSYS),
	CALL(mprotect, ENOMEM),
	CALL(mremap, ENOMEM),
	CALL(munmap, ENOMEM),
	CALL(newfstatat, EIO, ENOMEM),
	CALL(open_tree, EMFILE, ENFILE, ENOMEM, EPERM, ENOSYS),
	CALL(openat, EMFILE, ENFILE, ENOMEM, EIO, EINTR, EPERM),
	CALL(openat2, EMFILE, ENFILE, ENOMEM, EINTR, EPERM, ENOSYS),
	CALL(pipe2, EMFILE, ENFILE),
	CALL(pivot_root, EINVAL, EBUSY, ENOMEM, EPERM),
	CALL(ppoll, ENOMEM, EINTR),
	CALL(prctl, EINVAL, EACCES, ENOMEM),
	CALL(pread64, EIO, EINTR),
	CALL(prlimit64, EPERM, ENOSYS),
	CALL(read, EIO, EINTR),
	CALL(readlinkat, EIO, ENOMEM),
	CALL(renameat, ENOSPC, EIO, ENOMEM),
	CALL(rseq, ENOSYS),
	CALL(rt_sigaction, EINVAL),
	CALL(rt_sigprocmask, EINVAL),
	CALL(sendfile, EIO, EINTR, ENOMEM, ENOSPC),
	CALL(set_robust_list, ENOSYS),
	CALL(set_tid_address, ENOSYS),
	CALL(setns, EPERM, ENOMEM, ENOSYS),
	CALL(setxattr, ENOSPC, ENOMEM, EPERM),
	CALL(sigaltstack, ENOMEM),
	CALL(statx, EIO, ENOMEM, ENOSYS),
	CALL(symlinkat, ENOSPC, EIO, ENOMEM),
	CALL(sysinfo, EFAULT),
	CALL(umount2, EPERM, ENOMEM),
	CALL(uname, ENOSYS),
	CALL(unlinkat, EIO, ENOMEM),
	CALL(unshare, EPERM, ENOMEM, ENOSYS),
	CALL(utimensat, EIO, EPERM),
	CALL(wait4, EINTR),
	CALL(write, ENOSPC, EIO, EINTR),
#ifdef __x86_64__
	/* Later processors have none of these, and their libc asks for one of the above. */
	CALL(access, EACCES, EIO, ENOMEM),
	CALL(arch_prctl, EPERM),
	CALL(chmod, EIO, EPERM),
	CALL(fork, EAGAIN, ENOMEM),
	CALL(lchown, EIO, EPERM, ENOSPC),
	CALL(lstat, EIO, ENOMEM),
	CALL(mkdir, ENOSPC, EIO, EROFS, ENOMEM),
	CALL(open, EMFILE, ENFILE, ENOMEM, EIO, EINTR),
	CALL(poll, ENOMEM, EINTR),
	CALL(readlink, EIO, ENOMEM),
	CALL(rename, ENOSPC, EIO, ENOMEM),
	CALL(stat, EIO, ENOMEM),
	CALL(symlink, ENOSPC, EIO, ENOMEM),
	CALL(unlink, EIO, ENOMEM),
#endif
};

const struct call *call_of(long number)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (calls[i].number == number)
			return &calls[i];
	}
	return NULL;
}
