// SPDX-License-Identifier: Apache-2.0 OR MIT
/* setxattr FILE NAME VALUE, getxattr FILE NAME: the file itself, never what a link leads to. */
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');
	char value[4096];
	ssize_t size;

	name = name ? name + 1 : argv[0];
	if (argc == 4 && !strcmp(name, "setxattr")) {
		if (!lsetxattr(argv[1], argv[2], argv[3], strlen(argv[3]), 0))
			return 0;
	} else if (argc == 3 && !strcmp(name, "getxattr")) {
		size = lgetxattr(argv[1], argv[2], value, sizeof(value));
		if (size >= 0)
			return printf("%.*s\n", (int)size, value) < 0;
	}
	perror(name);
	return 1;
}
