/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The event log of a TPM 2.0: TCG, PC Client Platform Firmware Profile, "Crypto Agile Log". It
 * proves nothing by itself: its events, one after the other, have to give the values of the TPM.
 */
#include "cfs.h"
#include "le.h"

#include <errno.h>
#include <string.h>

enum {
	ALGORITHMS_MAX = 8,

	NO_ACTION = 3, /* EV_NO_ACTION: extends nothing */

	PCR_IMAGES = 4,
	PCR_SECTIONS = 11,
};

enum { /* UEFI_IMAGE_LOAD_EVENT */
	PATH_LENGTH = 24,
	PATH = 32,
};

static const uint32_t APPLICATION = 0x80000003; /* EV_EFI_BOOT_SERVICES_APPLICATION */

struct reader {
	const uint8_t *data;
	uint64_t at, end;
};

struct header {
	uint32_t count;
	uint16_t names[ALGORITHMS_MAX];
	uint16_t sizes[ALGORITHMS_MAX];
	uint16_t bank;
	size_t digest; /* bytes of one of the bank */
};

static int broken(const char **why, const char *rule)
{
	*why = rule;
	return -EBADMSG;
}

/* NULL: it ends before. */
static const uint8_t *take(struct reader *reader, uint64_t size)
{
	const uint8_t *from = reader->data + reader->at;

	if (size > reader->end - reader->at)
		return NULL;
	reader->at += size;
	return from;
}

static int parse_algorithms(struct reader *spec, struct header *header, const char **why)
{
	bool has_bank = false;

	for (uint32_t i = 0; i < header->count; i++) {
		const uint8_t *entry = take(spec, 4);

		if (!entry)
			return broken(why, "header: cut");
		header->names[i] = le16(entry);
		header->sizes[i] = le16(entry + 2);
		if (header->sizes[i] == 0 || header->sizes[i] > CFS_DIGEST_MAX)
			return broken(why, "header: a digest that is not of 1 to 64 bytes");
		for (uint32_t k = 0; k < i; k++)
			if (header->names[k] == header->names[i])
				return broken(why, "header: an algorithm is there twice");
		if (header->names[i] != header->bank)
			continue;
		if (header->sizes[i] != header->digest)
			return broken(why, "header: another size of the bank's digests");
		has_bank = true;
	}
	return has_bank ? 0 : broken(why, "header: no digests of this bank");
}

/* The first event has the form of TPM 1.2 and says how the others look. */
static int parse_header(struct reader *reader, struct header *header, const char **why)
{
	static const uint8_t start[28] = { 0, 0, 0, 0, NO_ACTION };
	const uint8_t *event = take(reader, sizeof(start) + 4);
	struct reader spec = { 0 };
	const uint8_t *fixed, *vendor;
	int error;

	if (!event)
		return broken(why, "header: cut");
	if (memcmp(event, start, sizeof(start)) != 0)
		return broken(why, "header: no little-endian log of a TPM 2.0");
	spec.end = le32(event + sizeof(start));
	spec.data = take(reader, spec.end);
	if (!spec.data)
		return broken(why, "header: cut");
	/* The signature, platform class, version, size of a pointer, count of algorithms. */
	fixed = take(&spec, 28);
	if (!fixed || memcmp(fixed, "Spec ID Event03", 16) != 0 || fixed[21] != 2)
		return broken(why, "header: not \"Spec ID Event03\" of version 2");
	header->count = le32(fixed + 24);
	if (header->count < 1 || header->count > ALGORITHMS_MAX)
		return broken(why, "header: not 1 to 8 algorithms");
	error = parse_algorithms(&spec, header, why);
	if (error)
		return error;
	vendor = take(&spec, 1);
	if (!vendor || !take(&spec, *vendor) || spec.at != spec.end)
		return broken(why, "header: its size does not fit");
	return 0;
}

/* The digests of an event, each of an algorithm of the header, none twice; gives the bank's. */
static int parse_digests(struct reader *reader, const struct header *header, uint32_t count,
			 const uint8_t **digest, const char **why)
{
	uint32_t seen = 0;

	if (count > header->count)
		return broken(why, "an event with more digests than there are algorithms");
	while (count--) {
		const uint8_t *name = take(reader, 2);
		const uint8_t *value;
		uint32_t i = 0;

		if (!name)
			return broken(why, "an event that is cut");
		while (i < header->count && header->names[i] != le16(name))
			i++;
		if (i == header->count)
			return broken(why, "an event with an algorithm that the header has not");
		if (seen >> i & 1)
			return broken(why, "an event with two digests of an algorithm");
		seen |= UINT32_C(1) << i;
		value = take(reader, header->sizes[i]);
		if (!value)
			return broken(why, "an event that is cut");
		if (header->names[i] == header->bank)
			*digest = value;
	}
	return 0;
}

static void extend(const struct header *header, uint8_t *pcr, const uint8_t *digest)
{
	struct cfs_sha sum;

	(void)cfs_sha_begin(&sum, header->bank);
	cfs_sha_add(&sum, pcr, header->digest);
	cfs_sha_add(&sum, digest, header->digest);
	(void)cfs_sha_end(&sum, pcr);
}

/* shim logs what it is asked to look at as an application, before it looks (GRUB asks it of each file
 * for its command linux), and the image that was loaded before may be started all the same. But shim
 * has no path for it, and what firmware loads from a disk has one. */
static bool has_path(const uint8_t *data, uint32_t size)
{
	return size >= PATH && le64(data + PATH_LENGTH) != 0;
}

static int parse_event(struct reader *reader, const struct header *header,
		       struct cfs_log_events *out, const char **why)
{
	const uint8_t *event = take(reader, 12), *digest = NULL, *size, *data;
	uint32_t pcr, type;
	int error;

	if (!event)
		return broken(why, "an event that is cut");
	pcr = le32(event);
	type = le32(event + 4);
	error = parse_digests(reader, header, le32(event + 8), &digest, why);
	if (error)
		return error;
	size = take(reader, 4);
	data = size ? take(reader, le32(size)) : NULL;
	if (!data)
		return broken(why, "an event that is cut");
	if (type == NO_ACTION || (pcr != PCR_IMAGES && pcr != PCR_SECTIONS))
		return 0;
	if (!digest)
		return broken(why, "an event without a digest of this bank");
	if (pcr == PCR_SECTIONS) {
		if (out->count == CFS_LOG_EVENTS_MAX)
			return broken(why, "more than 64 events of PCR 11");
		memcpy(out->events[out->count++], digest, header->digest);
		extend(header, out->pcr_11, digest);
		return 0;
	}
	if (type == APPLICATION && out->count == 0) {
		out->has_image = has_path(data, le32(size));
		if (out->has_image)
			memcpy(out->image, digest, header->digest);
		else
			memset(out->image, 0, sizeof(out->image));
	}
	extend(header, out->pcr_4, digest);
	return 0;
}

int cfs_log_parse(const uint8_t *log, size_t size, uint16_t bank, struct cfs_log_events *out,
		  const char **why)
{
	struct reader reader = { log, 0, size };
	struct header header = { .bank = bank };
	struct cfs_sha known;
	int error = cfs_sha_begin(&known, bank);

	*why = NULL;
	memset(out, 0, sizeof(*out));
	if (error < 0)
		return error;
	header.digest = (size_t)error;
	if (size > CFS_LOG_MAX)
		return broken(why, "over 16 MiB");
	error = parse_header(&reader, &header, why);
	while (!error && reader.at < reader.end) {
		out->at = reader.at;
		error = parse_event(&reader, &header, out, why);
	}
	return error;
}
