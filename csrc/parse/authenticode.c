/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * A UKI from its first byte to its last, each of them read once: the hash of the file that firmware
 * measures ("Windows Authenticode Portable Executable Signature Format"), the hashes of its sections,
 * which the stub measures, and its own section. So all three are of the same bytes, whatever becomes
 * of the file meanwhile.
 *
 * Firmware adds up sizes of sections and hashes what is left of the file behind their sum. Without
 * gaps and overlaps that is all of the file, in its order.
 */
#include "cfs.h"

#include <errno.h>
#include <string.h>

struct walk {
	cfs_read_at read;
	void *context;
	uint64_t at;
	size_t head; /* bytes that were read for the headers */
	struct cfs_sha sum;
	uint8_t first[CFS_UKI_CHUNK];
	uint8_t chunk[CFS_UKI_CHUNK];
};

static int broken(const char **why, const char *rule)
{
	*why = rule;
	return -EBADMSG;
}

/* For the parser of headers: from the first bytes and no others. */
static int read_head(void *context, uint64_t offset, void *to, size_t length)
{
	const struct walk *walk = context;

	if (offset > walk->head || length > walk->head - offset)
		return -ERANGE;
	memcpy(to, walk->first + offset, length);
	return 0;
}

/* The next bytes, at most a chunk of them; how many. */
static int next(struct walk *walk, uint64_t most, const uint8_t **data)
{
	size_t size = most < CFS_UKI_CHUNK ? (size_t)most : CFS_UKI_CHUNK;
	int error;

	if (walk->at < walk->head) {
		if (size > walk->head - walk->at)
			size = (size_t)(walk->head - walk->at);
		*data = walk->first + walk->at;
	} else {
		error = walk->read(walk->context, walk->at, walk->chunk, size);
		if (error < 0)
			return error;
		*data = walk->chunk;
	}
	walk->at += size;
	return (int)size;
}

/* To the file's hash, and to a section's (or NULL), and to `keep` (or NULL). */
static int pass(struct walk *walk, uint64_t end, struct cfs_sha *section, uint8_t *keep)
{
	while (walk->at < end) {
		const uint8_t *data = NULL;
		int size = next(walk, end - walk->at, &data);

		if (size < 0)
			return size;
		cfs_sha_add(&walk->sum, data, (size_t)size);
		if (section)
			cfs_sha_add(section, data, (size_t)size);
		if (keep) {
			memcpy(keep, data, (size_t)size);
			keep += size;
		}
	}
	return 0;
}

/* All of them are within the first bytes. Checksum and entry of the certificates are left out. */
static void pass_headers(struct walk *walk, const struct cfs_pe *pe)
{
	const struct {
		uint64_t from, to;
	} parts[] = {
		{ 0, pe->checksum_offset },
		{ pe->checksum_offset + 4, pe->certificate_directory },
		{ pe->certificate_directory + 8, pe->size_of_headers },
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		cfs_sha_add(&walk->sum, walk->first + parts[i].from,
			    (size_t)(parts[i].to - parts[i].from));
	walk->at = pe->size_of_headers;
}

static int pass_section(struct walk *walk, struct cfs_uki *uki, uint32_t index, bool is_payload,
			uint16_t bank)
{
	const struct cfs_pe_section *section = &uki->pe.sections[index];
	uint64_t end = walk->at + section->raw_size;
	/* Behind these bytes is padding; where there are fewer, none of it is measured. */
	uint32_t used = section->virtual_size < section->raw_size ? section->virtual_size
								  : section->raw_size;
	struct cfs_sha sum;
	int error = cfs_sha_begin(&sum, bank);

	if (error >= 0)
		error = pass(walk, walk->at + used, &sum, is_payload ? uki->payload : NULL);
	if (error < 0)
		return error;
	(void)cfs_sha_end(&sum, uki->sections[index]);
	return pass(walk, end, NULL, NULL);
}

/* Where the payload is; -ENOENT: nowhere. */
static int find_payload(const struct cfs_pe *pe, int profile, const char **why)
{
	int index = cfs_pe_find(pe, ".cfsdig", profile, why);

	if (index == -ENOENT)
		index = cfs_pe_find(pe, ".cfsdig", CFS_PE_BASE, why);
	if (index >= 0 && pe->sections[index].virtual_size > CFS_PAYLOAD_MAX)
		return -EMSGSIZE;
	return index;
}

/* The section whose data begins here, or the number of them all. */
static uint32_t find_at(const struct cfs_pe *pe, uint64_t at)
{
	uint32_t i = 0;

	while (i < pe->section_count &&
	       (pe->sections[i].raw_size == 0 || pe->sections[i].raw_pointer != at))
		i++;
	return i;
}

static int pass_sections(struct walk *walk, struct cfs_uki *uki, int payload, uint16_t bank,
			 const char **why)
{
	const struct cfs_pe *pe = &uki->pe;
	uint32_t left = 0, index;

	for (uint32_t i = 0; i < pe->section_count; i++)
		left += pe->sections[i].raw_size > 0;
	for (; left > 0; left--) {
		int error;

		index = find_at(pe, walk->at);
		if (index == pe->section_count)
			return broken(why, "section: a gap in front of its data");
		error = pass_section(walk, uki, index, (int)index == payload, bank);
		if (error < 0)
			return error;
	}
	return 0;
}

static int parse(struct walk *walk, uint64_t file_size, uint16_t bank, int profile,
		 struct cfs_uki *out, const char **why)
{
	const struct cfs_pe *pe = &out->pe;
	int payload, error;

	error = cfs_sha_begin(&walk->sum, bank);
	if (error < 0)
		return error;
	walk->head = file_size < CFS_UKI_CHUNK ? (size_t)file_size : CFS_UKI_CHUNK;
	error = walk->read(walk->context, 0, walk->first, walk->head);
	if (error < 0)
		return error;
	error = cfs_pe_parse(read_head, walk, file_size, &out->pe, why);
	if (error == -ERANGE || (!error && pe->size_of_headers > walk->head))
		return broken(why, "headers: over 32 KiB");
	if (error < 0)
		return error;
	payload = find_payload(pe, profile, why);
	if (payload < 0 && payload != -ENOENT)
		return payload;
	out->payload_size = payload < 0 ? payload : (int)pe->sections[payload].virtual_size;

	pass_headers(walk, pe);
	error = pass_sections(walk, out, payload, bank, why);
	if (error < 0)
		return error;
	error = pass(walk, pe->certificate_offset ? pe->certificate_offset : file_size, NULL, NULL);
	if (error < 0)
		return error;
	(void)cfs_sha_end(&walk->sum, out->hash);
	return 0;
}

int cfs_uki_parse(cfs_read_at read, void *context, uint64_t file_size, uint16_t bank, int profile,
		  struct cfs_uki *out, const char **why)
{
	struct walk walk = { .read = read, .context = context };
	int error;

	*why = NULL;
	memset(out, 0, sizeof(*out));
	error = parse(&walk, file_size, bank, profile, out, why);
	if (error)
		memset(out, 0, sizeof(*out));
	return error;
}
