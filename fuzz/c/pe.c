/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A PE file: headers, finding sections, their content; from memory, from a file, with reads that
 * fail. */
#include "fuzz.h"
#include "cfs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct reader {
	const uint8_t *data;
	size_t size;
	uint64_t promised; /* the file's size; beyond `data` it is zeros */
	int left;          /* reads before one fails; -1: none does */
};

static int read_some(void *context, uint64_t offset, void *buffer, size_t length)
{
	struct reader *reader = context;
	size_t there = offset < reader->size ? reader->size - (size_t)offset : 0;

	PROMISE(length <= 8192 && offset <= reader->promised && length <= reader->promised - offset);
	if (reader->left == 0)
		return -EIO;
	reader->left--;
	memset(buffer, 0, length);
	if (there)
		memcpy(buffer, reader->data + offset, there < length ? there : length);
	return 0;
}

static bool is_blank(const struct cfs_pe *pe)
{
	static const struct cfs_pe blank;

	return memcmp(pe, &blank, sizeof(blank)) == 0;
}

/* What a file that was taken is known to be like. */
static void check_layout(const struct cfs_pe *pe, size_t size)
{
	uint64_t end = pe->certificate_offset ? pe->certificate_offset : size;

	PROMISE(pe->section_count >= 1 && pe->section_count <= CFS_PE_SECTIONS_MAX);
	PROMISE(pe->file_size == size && pe->size_of_headers <= size && end <= size);
	PROMISE(pe->section_table + (uint64_t)pe->section_count * 40 <= pe->size_of_headers);
	PROMISE(pe->checksum_offset + 4 <= pe->certificate_directory);
	PROMISE(pe->certificate_directory + 8 <= pe->section_table);
	/* Readers divide by them. */
	PROMISE(pe->file_alignment >= 512 && pe->section_alignment >= pe->file_alignment);
	PROMISE(end == size || end + pe->certificate_size == size);
	for (uint32_t i = 0; i < pe->section_count; i++) {
		const struct cfs_pe_section *one = &pe->sections[i];

		PROMISE(one->name[0] != '/');
		PROMISE(one->raw_size == 0 || one->raw_pointer >= pe->size_of_headers);
		PROMISE(one->raw_size == 0 || (uint64_t)one->raw_pointer + one->raw_size <= end);
		PROMISE(one->raw_size == 0 || one->raw_pointer % pe->file_alignment == 0);
		for (uint32_t k = 0; k < i; k++) {
			const struct cfs_pe_section *two = &pe->sections[k];

			PROMISE(one->raw_size == 0 || two->raw_size == 0 ||
				(uint64_t)one->raw_pointer + one->raw_size <= two->raw_pointer ||
				(uint64_t)two->raw_pointer + two->raw_size <= one->raw_pointer);
		}
	}
}

static void check_section(const struct cfs_pe *pe, int index, const uint8_t *data, int fd)
{
	const struct cfs_pe_section *section = &pe->sections[index];
	uint8_t *content = malloc(section->virtual_size);

	PROMISE(section->virtual_size > 0 && section->virtual_size <= section->raw_size);
	PROMISE(content);
	PROMISE(cfs_pe_section_read_fd(fd, pe, (uint32_t)index, content,
				       section->virtual_size) == (int)section->virtual_size);
	PROMISE(!memcmp(content, data + section->raw_pointer, section->virtual_size));
	PROMISE(cfs_pe_section_read_fd(-1, pe, (uint32_t)index, content,
				       section->virtual_size - 1) == -EMSGSIZE);
	PROMISE(cfs_pe_section_read_fd(-1, pe, (uint32_t)index, content,
				       section->virtual_size) == -EBADF);
	free(content);
}

static void check_find(const struct cfs_pe *pe, const char *name, const uint8_t *data, int fd)
{
	for (int profile = CFS_PE_BASE; profile < 3; profile++) {
		const char *why;
		int found = cfs_pe_find(pe, name, profile, &why);

		PROMISE((found == -EBADMSG) == (why != NULL));
		PROMISE(found < (int)pe->section_count);
		PROMISE(found >= 0 || found == -ENOENT || found == -EEXIST || found == -EINVAL ||
			found == -EBADMSG);
		if (found >= 0)
			check_section(pe, found, data, fd);
	}
}

static void check_no_files(void)
{
	static struct cfs_pe pe;
	static int directory = -1;
	const char *why;

	if (directory < 0)
		directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	PROMISE(cfs_pe_parse_fd(-1, &pe, &why) == -EBADF && why == NULL);
	PROMISE(cfs_pe_parse_fd(directory, &pe, &why) == -EINVAL && why == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cfs_pe pe, other;
	const char *why, *other_why;
	int fd = fuzz_file(data, size);
	int result = cfs_pe_parse_buffer(data, size, &pe, &why);

	PROMISE(result == 0 || result == -EBADMSG || result == -EMSGSIZE);
	PROMISE((result < 0) == (why != NULL) && (result == 0 || is_blank(&pe)));
	PROMISE(cfs_pe_parse_fd(fd, &other, &other_why) == result);
	PROMISE(why == other_why && !memcmp(&pe, &other, sizeof(pe)));

	for (int reads = 0; reads < 4; reads++) {
		struct reader reader = { data, size, size, reads };
		int failed = cfs_pe_parse(read_some, &reader, size, &other, &other_why);

		PROMISE(failed == -EIO || failed == result);
		PROMISE(failed == 0 || is_blank(&other));
		/* The same file with room behind it, up to the limit and over it. */
		reader = (struct reader){ data, size, (UINT64_C(2) << 30) + (uint64_t)(reads % 2), -1 };
		failed = cfs_pe_parse(read_some, &reader, reader.promised, &other, &other_why);
		PROMISE((failed == -EFBIG) == (reads % 2 == 1));
	}
	check_no_files();
	if (result)
		return 0;

	check_layout(&pe, size);
	for (uint32_t i = 0; i < pe.section_count; i++) {
		char name[9] = { 0 };

		memcpy(name, pe.sections[i].name, 8);
		check_find(&pe, name, data, fd);
		result = cfs_pe_section_read_fd(fd, &pe, i, NULL, 0);
		PROMISE(result == -EBADMSG || result == -EMSGSIZE);
	}
	check_find(&pe, ".cfsdig", data, fd);
	check_find(&pe, ".longer.than.8", data, fd);
	PROMISE(cfs_pe_section_read_fd(-1, &pe, pe.section_count, NULL, 0) == -EINVAL);
	return 0;
}
