// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * setxattr FILE NAME VALUE, getxattr FILE NAME: the file itself, never what a link leads to. A value
 * that begins with 0x is given in hex digits.
 */
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

static size_t from_hex(const char *text, char *value, size_t size)
{
	unsigned int byte;
	size_t length = 0;

	while (length < size && sscanf(text + 2 * length, "%2x", &byte) == 1)
		value[length++] = (char)byte;
	return length;
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');
	char value[4096];
	ssize_t size;

	name = name ? name + 1 : argv[0];
	if (argc == 4 && !strcmp(name, "setxattr")) {
		const char *text = argv[3];
		size_t length = strlen(text);

		if (!strncmp(text, "0x", 2)) {
			length = from_hex(text + 2, value, sizeof(value));
			text = value;
		}
		if (!lsetxattr(argv[1], argv[2], text, length, 0))
			return 0;
	} else if (argc == 3 && !strcmp(name, "getxattr")) {
		size = lgetxattr(argv[1], argv[2], value, sizeof(value));
		if (size >= 0)
			return printf("%.*s\n", (int)size, value) < 0;
	}
	perror(name);
	return 1;
}
