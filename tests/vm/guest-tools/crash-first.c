// SPDX-License-Identifier: Apache-2.0 OR MIT
/* As /init: has /next/linux, /next/initrd and the line in /next/words started after a crash (kdump,
 * with crashkernel= on this kernel's command line), and crashes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	int kernel = open("/next/linux", O_RDONLY | O_CLOEXEC);
	int initrd = open("/next/initrd", O_RDONLY | O_CLOEXEC);
	FILE *file = fopen("/next/words", "re");
	char words[1024] = "";
	FILE *trigger;

	if (file && fgets(words, sizeof(words), file)) {
		words[strcspn(words, "\n")] = '\0';
		if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(words) + 1, words,
			    (unsigned long)KEXEC_FILE_ON_CRASH))
			perror("crash-first: kexec_file_load");
	}
	mount("proc", "/proc", "proc", 0, NULL);
	trigger = fopen("/proc/sysrq-trigger", "we");
	if (trigger) {
		fputc('c', trigger);
		fclose(trigger);
	}
	perror("crash-first");
	reboot(RB_POWER_OFF);
	return 1;
}
