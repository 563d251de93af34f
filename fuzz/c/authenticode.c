/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A UKI that is read once: each byte in its turn; the hashes are those of the bytes. */
#include "fuzz.h"
#include "cfs.h"

#include <errno.h>
#include <string.h>

struct reader {
	const uint8_t *data;
	size_t size;
	uint64_t at; /* what was read so far */
	int left;    /* reads before one fails; -1: none does */
};

static int read_next(void *context, uint64_t offset, void *to, size_t length)
{
	struct reader *reader = context;

	PROMISE(offset == reader->at && length <= CFS_UKI_CHUNK);
	PROMISE(offset <= reader->size && length <= reader->size - offset);
	if (reader->left == 0)
		return -EIO;
	reader->left--;
	memcpy(to, reader->data + offset, length);
	reader->at += length;
	return 0;
}

static bool is_blank(const struct cfs_uki *uki)
{
	static const struct cfs_uki blank;

	return memcmp(uki, &blank, sizeof(blank)) == 0;
}

static void check(const struct cfs_uki *uki, uint16_t bank, const uint8_t *data, size_t size)
{
	const struct cfs_pe *pe = &uki->pe;
	uint64_t end = pe->certificate_offset ? pe->certificate_offset : size;
	uint8_t digest[CFS_DIGEST_MAX];
	uint8_t *all = malloc(end);
	size_t length, bytes = 0;

	/* All of the file but checksum, entry of the certificates, and these. */
	PROMISE(all);
	memcpy(all, data, pe->checksum_offset);
	bytes = pe->checksum_offset;
	memcpy(all + bytes, data + pe->checksum_offset + 4,
	       pe->certificate_directory - pe->checksum_offset - 4);
	bytes += pe->certificate_directory - pe->checksum_offset - 4;
	memcpy(all + bytes, data + pe->certificate_directory + 8, end - pe->certificate_directory - 8);
	length = (size_t)cfs_sha(bank, all, (size_t)end - 12, digest);
	PROMISE(memcmp(digest, uki->hash, length) == 0);
	free(all);

	for (uint32_t i = 0; i < pe->section_count; i++) {
		const struct cfs_pe_section *one = &pe->sections[i];

		if (one->raw_size == 0 || one->virtual_size > one->raw_size)
			continue;
		(void)cfs_sha(bank, data + one->raw_pointer, one->virtual_size, digest);
		PROMISE(memcmp(digest, uki->sections[i], length) == 0);
	}
	PROMISE(uki->payload_size == -ENOENT ||
		(uki->payload_size > 0 && uki->payload_size <= CFS_PAYLOAD_MAX));
	if (uki->payload_size > 0)
		PROMISE(memmem(data, size, uki->payload, (size_t)uki->payload_size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cfs_uki uki;
	static struct cfs_pe pe;
	const char *why, *headers;
	bool is_pe = cfs_pe_parse_buffer(data, size, &pe, &headers) == 0;

	for (int profile = CFS_PE_BASE; profile < 2; profile++) {
		uint16_t bank = profile == 0 ? CFS_BANK_SHA384 : CFS_BANK_SHA256;
		struct reader reader = { data, size, 0, -1 };
		int result = cfs_uki_parse(read_next, &reader, size, bank, profile, &uki, &why);

		PROMISE(result == 0 || is_blank(&uki));
		PROMISE(result == 0 || result == -EBADMSG || result == -EMSGSIZE || result == -EEXIST);
		PROMISE(result != -EBADMSG || why != NULL);
		PROMISE(is_pe || result < 0);
		if (result == 0)
			check(&uki, bank, data, size);
		for (int reads = 0; reads < 4; reads++) {
			int failed;

			reader = (struct reader){ data, size, 0, reads };
			failed = cfs_uki_parse(read_next, &reader, size, bank, profile, &uki, &why);
			PROMISE(failed == result || failed == -EIO);
		}
	}
	struct reader reader = { data, size, 0, -1 };
	PROMISE(cfs_uki_parse(read_next, &reader, size, 0x12, 0, &uki, &why) == -EPROTONOSUPPORT);
	return 0;
}
