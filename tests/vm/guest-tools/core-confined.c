// SPDX-License-Identifier: Apache-2.0 OR MIT
/* core-confined FILE FAULTS: reads .cfsdig of FILE once for each fault below FAULTS (fault.c).
 * The parser has that fault then. It prints fault, result and why. */
#include "cfs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

/* Of fault.c. */
extern int fault_parser, fault_descriptor;

int main(int argc, char **argv)
{
	static char content[CFS_CONFINED_MAX], why[CFS_WHY_MAX];
	int fd = argc == 3 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;

	fault_descriptor = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd < 0 || fault_descriptor < 0)
		return 1;
	for (fault_parser = 0; fault_parser < atoi(argv[2]); fault_parser++)
		printf("%d %d %s\n", fault_parser,
		       cfs_pe_section_read_confined(fd, ".cfsdig", -1, content, sizeof(content), why),
		       why);
	return 0;
}
