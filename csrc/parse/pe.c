/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Headers and section table of a UKI: Microsoft's "PE Format", as far as the Authenticode hash and
 * systemd-stub rely on it. Stricter than a loader has to be: what another reader might take another
 * way is refused. All numbers are the attacker's; sums are made in 64 bits.
 */
#include "cfs.h"
#include "le.h"

#include <errno.h>
#include <string.h>

enum {
	FILE_MIN = 1024,
	ALIGNMENT_MIN = 512,
	ALIGNMENT_MAX = 64 << 10,

	DOS_SIZE = 64,
	SIGNATURE_SIZE = 4,
	COFF_SIZE = 20,
	SECTION_SIZE = 40,
	DIRECTORY_SIZE = 8,
	CERTIFICATE_DIRECTORY = 4,
	DIRECTORIES_MIN = CERTIFICATE_DIRECTORY + 1,
	DIRECTORIES_MAX = 16,

	MAGIC_PE32 = 0x10b,
	MAGIC_PE32_PLUS = 0x20b,
	SUBSYSTEM_EFI_APPLICATION = 10,

	/* In the optional header: offset of the data directories. */
	DIRECTORIES_PE32 = 96,
	DIRECTORIES_PE32_PLUS = 112,
	OPTIONAL_MAX = DIRECTORIES_PE32_PLUS + DIRECTORIES_MAX * DIRECTORY_SIZE,
};

static const uint64_t FILE_MAX = UINT64_C(2) << 30;

struct source {
	cfs_read_at read;
	void *context;
};

static int broken(const char **why, const char *rule)
{
	*why = rule;
	return -EBADMSG;
}

static bool is_known_machine(uint16_t machine)
{
	switch (machine) {
	case 0x014c: /* i386 */
	case 0x01c2: /* ARM Thumb */
	case 0x01c4: /* ARMv7 Thumb */
	case 0x5032: /* RISC-V 32 */
	case 0x5064: /* RISC-V 64 */
	case 0x6232: /* LoongArch 32 */
	case 0x6264: /* LoongArch 64 */
	case 0x8664: /* x86-64 */
	case 0xaa64: /* AArch64 */
		return true;
	default:
		return false;
	}
}

static bool is_alignment(uint32_t value)
{
	return value >= ALIGNMENT_MIN && value <= ALIGNMENT_MAX && (value & (value - 1)) == 0;
}

/* As the specification has it but for the machine's page size; readers round up to it. */
static bool is_section_alignment(uint32_t value, uint32_t file_alignment)
{
	return value >= file_alignment && (value & (value - 1)) == 0;
}

/* DOS header; gives e_lfanew. */
static int parse_dos(const struct source *source, struct cfs_pe *pe, const char **why)
{
	uint8_t dos[DOS_SIZE];
	int error;

	error = source->read(source->context, 0, dos, sizeof(dos));
	if (error < 0)
		return error;
	if (memcmp(dos, "MZ", 2) != 0)
		return broken(why, "DOS header: no MZ");

	pe->header_offset = le32(dos + 60);
	if (pe->header_offset < DOS_SIZE)
		return broken(why, "DOS header: e_lfanew below 64");
	if (pe->header_offset % 8 != 0)
		return broken(why, "DOS header: e_lfanew is not a multiple of 8");
	if (pe->header_offset + SIGNATURE_SIZE + COFF_SIZE > pe->file_size)
		return broken(why, "DOS header: e_lfanew outside the file");
	return 0;
}

/* Signature and COFF header; gives the optional header's size. */
static int parse_coff(const struct source *source, struct cfs_pe *pe, uint16_t *optional_size,
		      const char **why)
{
	uint8_t coff[SIGNATURE_SIZE + COFF_SIZE];
	int error;

	error = source->read(source->context, pe->header_offset, coff, sizeof(coff));
	if (error < 0)
		return error;
	if (memcmp(coff, "PE\0\0", SIGNATURE_SIZE) != 0)
		return broken(why, "PE header: no PE signature");

	pe->machine = le16(coff + 4);
	if (!is_known_machine(pe->machine))
		return broken(why, "PE header: unknown machine");
	pe->section_count = le16(coff + 6);
	if (pe->section_count < 1 || pe->section_count > CFS_PE_SECTIONS_MAX)
		return broken(why, "PE header: not 1 to 512 sections");
	*optional_size = le16(coff + 20);
	return 0;
}

static int parse_certificates(struct cfs_pe *pe, const uint8_t *directory, const char **why)
{
	/* The one directory whose address is an offset in the file. */
	pe->certificate_offset = le32(directory);
	pe->certificate_size = le32(directory + 4);
	if (pe->certificate_offset == 0 && pe->certificate_size == 0)
		return 0;
	if (pe->certificate_offset == 0 || pe->certificate_size == 0)
		return broken(why, "certificates: only one of offset and size is 0");
	if (pe->certificate_offset % 8 != 0 || pe->certificate_size % 8 != 0)
		return broken(why, "certificates: not 8-aligned");
	if (pe->certificate_offset < pe->size_of_headers)
		return broken(why, "certificates: within the headers");
	if (pe->certificate_offset + pe->certificate_size != pe->file_size)
		return broken(why, "certificates: do not end with the file");
	return 0;
}

static int parse_optional(const struct source *source, struct cfs_pe *pe, uint16_t size,
			  const char **why)
{
	uint64_t offset = pe->header_offset + SIGNATURE_SIZE + COFF_SIZE;
	uint8_t header[OPTIONAL_MAX] = { 0 };
	uint32_t directories, count;
	int error;

	if (size < DIRECTORIES_PE32 || size > OPTIONAL_MAX)
		return broken(why, "optional header: impossible size");
	if (offset + size > pe->file_size)
		return broken(why, "optional header: outside the file");
	error = source->read(source->context, offset, header, size);
	if (error < 0)
		return error;

	pe->magic = le16(header);
	if (pe->magic == MAGIC_PE32)
		directories = DIRECTORIES_PE32;
	else if (pe->magic == MAGIC_PE32_PLUS)
		directories = DIRECTORIES_PE32_PLUS;
	else
		return broken(why, "optional header: magic is neither PE32 nor PE32+");
	if (size < directories)
		return broken(why, "optional header: impossible size");
	count = le32(header + directories - 4);
	if (count < DIRECTORIES_MIN || count > DIRECTORIES_MAX)
		return broken(why, "optional header: not 5 to 16 data directories");
	if (size != directories + count * DIRECTORY_SIZE)
		return broken(why, "optional header: size does not fit the data directories");

	/* Up to here the two kinds lie alike, but for ImageBase. */
	if (le16(header + 68) != SUBSYSTEM_EFI_APPLICATION)
		return broken(why, "optional header: subsystem is not EFI application");
	pe->section_alignment = le32(header + 32);
	pe->file_alignment = le32(header + 36);
	pe->size_of_image = le32(header + 56);
	pe->size_of_headers = le32(header + 60);
	pe->checksum_offset = offset + 64;
	pe->certificate_directory = offset + directories + CERTIFICATE_DIRECTORY * DIRECTORY_SIZE;
	pe->section_table = offset + size;

	if (!is_alignment(pe->file_alignment))
		return broken(why, "optional header: FileAlignment is no power of two from 512 to 64 KiB");
	if (!is_section_alignment(pe->section_alignment, pe->file_alignment))
		return broken(why, "optional header: SectionAlignment is no power of two >= FileAlignment");
	if (pe->size_of_headers > pe->file_size)
		return broken(why, "optional header: SizeOfHeaders outside the file");
	if (pe->section_table + (uint64_t)pe->section_count * SECTION_SIZE > pe->size_of_headers)
		return broken(why, "section table: not within SizeOfHeaders");
	return parse_certificates(pe, header + directories + CERTIFICATE_DIRECTORY * DIRECTORY_SIZE,
				  why);
}

static int check_section(const struct cfs_pe *pe, const struct cfs_pe_section *section,
			 const char **why)
{
	uint64_t end = pe->certificate_offset ? pe->certificate_offset : pe->file_size;

	/* A name in the COFF string table: nothing that the stub or the firmware would see. */
	if (section->name[0] == '/')
		return broken(why, "section: name refers to the string table");
	if (section->raw_size == 0)
		return 0;
	if (section->raw_pointer < pe->size_of_headers)
		return broken(why, "section: data within the headers");
	if (section->raw_pointer % pe->file_alignment != 0)
		return broken(why, "section: data not aligned to FileAlignment");
	if ((uint64_t)section->raw_pointer + section->raw_size > end)
		return broken(why, "section: data beyond the file or within the certificates");
	return 0;
}

static bool overlaps(const struct cfs_pe_section *a, const struct cfs_pe_section *b)
{
	return a->raw_size && b->raw_size &&
	       a->raw_pointer < (uint64_t)b->raw_pointer + b->raw_size &&
	       b->raw_pointer < (uint64_t)a->raw_pointer + a->raw_size;
}

static int parse_sections(const struct source *source, struct cfs_pe *pe, const char **why)
{
	uint8_t table[CFS_PE_SECTIONS_MAX * SECTION_SIZE];
	int error;

	error = source->read(source->context, pe->section_table, table,
			     pe->section_count * SECTION_SIZE);
	if (error < 0)
		return error;
	for (uint32_t i = 0; i < pe->section_count; i++) {
		struct cfs_pe_section *section = &pe->sections[i];
		const uint8_t *entry = table + (size_t)i * SECTION_SIZE;

		memcpy(section->name, entry, sizeof(section->name));
		section->virtual_size = le32(entry + 8);
		section->virtual_address = le32(entry + 12);
		section->raw_size = le32(entry + 16);
		section->raw_pointer = le32(entry + 20);
		section->characteristics = le32(entry + 36);

		error = check_section(pe, section, why);
		if (error < 0)
			return error;
		for (uint32_t k = 0; k < i; k++)
			if (overlaps(section, &pe->sections[k]))
				return broken(why, "section: data overlaps another section's");
	}
	return 0;
}

int cfs_pe_parse(cfs_read_at read, void *context, uint64_t file_size, struct cfs_pe *out,
		 const char **why)
{
	const struct source source = { read, context };
	uint16_t optional_size = 0;
	int error;

	*why = NULL;
	memset(out, 0, sizeof(*out));
	if (file_size < FILE_MIN) {
		*why = "file: under 1 KiB";
		return -EMSGSIZE;
	}
	if (file_size > FILE_MAX) {
		*why = "file: over 2 GiB";
		return -EFBIG;
	}
	out->file_size = file_size;
	error = parse_dos(&source, out, why);
	if (!error)
		error = parse_coff(&source, out, &optional_size, why);
	if (!error)
		error = parse_optional(&source, out, optional_size, why);
	if (!error)
		error = parse_sections(&source, out, why);
	if (error)
		/* Nothing half-checked for a caller who forgets to look. */
		memset(out, 0, sizeof(*out));
	return error;
}

int cfs_pe_find(const struct cfs_pe *pe, const char *name, int profile, const char **why)
{
	/* All eight bytes: `.cfsdig\0` is another name than `.cfsdigX`. */
	uint8_t wanted[8] = { 0 };
	size_t length = strlen(name);
	int current = CFS_PE_BASE;
	int found = -ENOENT;

	*why = NULL;
	if (length == 0 || length > sizeof(wanted))
		return -EINVAL;
	memcpy(wanted, name, length);

	for (uint32_t i = 0; i < pe->section_count; i++) {
		if (memcmp(pe->sections[i].name, ".profile", sizeof(wanted)) == 0)
			current++;
		if (current != profile || memcmp(pe->sections[i].name, wanted, sizeof(wanted)) != 0)
			continue;
		if (found >= 0)
			return -EEXIST;
		found = (int)i;
	}
	if (found < 0)
		return found;
	if (pe->sections[found].virtual_size == 0)
		return broken(why, "section: VirtualSize is 0");
	/* Beyond lies the next section's data, or nothing. */
	if (pe->sections[found].virtual_size > pe->sections[found].raw_size)
		return broken(why, "section: VirtualSize over SizeOfRawData");
	return found;
}

struct buffer {
	const uint8_t *data;
	size_t size;
};

static int read_buffer(void *context, uint64_t offset, void *to, size_t length)
{
	const struct buffer *buffer = context;

	if (offset > buffer->size || length > buffer->size - offset)
		return -ERANGE;
	memcpy(to, buffer->data + offset, length);
	return 0;
}

int cfs_pe_parse_buffer(const void *data, size_t size, struct cfs_pe *out, const char **why)
{
	struct buffer buffer = { data, size };

	return cfs_pe_parse(read_buffer, &buffer, size, out, why);
}
