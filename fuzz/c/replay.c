/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Gives a harness the files named, and those in directories named, one by one: the corpus as an
 * ordinary test, without libFuzzer. Prints how many there were. C and C++ alike. */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static void replay_file(const char *path)
{
	/* Its own heap block of just that size, so that a byte too far is seen. */
	FILE *file = fopen(path, "rb");
	struct stat status;
	uint8_t *data;

	if (!file || fstat(fileno(file), &status) != 0) {
		perror(path);
		exit(2);
	}
	data = (uint8_t *)malloc((size_t)status.st_size);
	if (status.st_size && fread(data, (size_t)status.st_size, 1, file) != 1) {
		perror(path);
		exit(2);
	}
	fclose(file);
	(void)fprintf(stderr, "%s\r", path); /* the last one named is the one that crashed */
	LLVMFuzzerTestOneInput(data, (size_t)status.st_size);
	free(data);
}

static size_t replay(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	char name[4096];
	size_t count = 0;

	if (!directory && errno == ENOTDIR) {
		replay_file(path);
		return 1;
	}
	while (directory && (entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		replay_file(name);
		count++;
	}
	if (directory)
		closedir(directory);
	return count;
}

int main(int argc, char **argv)
{
	size_t count = 0;

	for (int i = 1; i < argc; i++)
		count += replay(argv[i]);
	(void)fputc('\n', stderr);
	printf("%zu\n", count);
	return 0;
}
