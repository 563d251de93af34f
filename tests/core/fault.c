/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the kernel answers to an ioctl, chosen by a test: the core is linked with --wrap. */
#include "../../csrc/sys.h"

typedef int (*fault_ioctl)(int fd, unsigned long request, void *argument);

int __real_sys_ioctl(int fd, unsigned long request, void *argument);
int __wrap_sys_ioctl(int fd, unsigned long request, void *argument);

/* NULL: the kernel itself. */
fault_ioctl fault_sys_ioctl;

int __wrap_sys_ioctl(int fd, unsigned long request, void *argument)
{
	if (fault_sys_ioctl)
		return fault_sys_ioctl(fd, request, argument);
	return __real_sys_ioctl(fd, request, argument);
}
