/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* As sys.h: the calls that a process makes to have another one, which may do little. */
#ifndef CFS_SYS_PROCESS_H
#define CFS_SYS_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

struct sigaction;
struct sock_fprog;

int sys_pipe(int fds[2]); /* close-on-exec */
int sys_fork(void);       /* the child's id, 0 in the child */
int sys_fork_with_files(void); /* the same; the two have one table of descriptors */
int sys_wait(pid_t child, int *status);
int sys_write_exact(int fd, const void *data, size_t length);
int sys_limit(int resource, unsigned long limit); /* setrlimit, soft and hard */
int sys_no_new_privileges(void);
int sys_seccomp_filter(const struct sock_fprog *filter);
int sys_setsid(void);
int sys_sigaction(int number, const struct sigaction *action);
int sys_close_range(unsigned int first, unsigned int last);
/* Does not return. It is not declared so: before such a call AddressSanitizer makes a system call
 * of its own, which a filter may not allow. */
void sys_exit(int code);

#endif
