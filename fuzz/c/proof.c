/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A log and a UKI against each other: the profile, the length of the UKI, the UKI, the log. */
#include "fuzz.h"
#include "cfs.h"
#include "parse/le.h"

#include <errno.h>
#include <string.h>

static int read_at(void *context, uint64_t offset, void *to, size_t length)
{
	memcpy(to, (const uint8_t *)context + offset, length);
	return 0;
}

/* Is each pair of the log one of the file, in whichever profile? */
static void check(const struct cfs_uki *uki, const struct cfs_log_events *log, size_t length)
{
	PROMISE(log->count > 0 && log->count % 2 == 0);
	for (uint32_t event = 0; event < log->count; event += 2) {
		bool found = false;

		for (uint32_t i = 0; i < uki->pe.section_count; i++) {
			uint8_t name[9] = { 0 }, digest[CFS_DIGEST_MAX];

			memcpy(name, uki->pe.sections[i].name, 8);
			(void)cfs_sha(CFS_BANK_SHA256, name, strlen((char *)name) + 1, digest);
			found = found || (!memcmp(digest, log->events[event], length) &&
					  !memcmp(uki->sections[i], log->events[event + 1], length));
		}
		PROMISE(found);
		for (uint32_t other = 0; other < event; other += 2)
			PROMISE(memcmp(log->events[event], log->events[other], length) != 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cfs_log_events log;
	static struct cfs_uki uki;
	const uint8_t *file = data + 5;
	char name[9];
	const char *why;
	uint32_t length;
	int profile;

	if (size < 5)
		return 0;
	profile = (int8_t)data[0];
	length = le32(data + 1);
	if (profile < CFS_PE_BASE || length > size - 5)
		return 0;
	if (cfs_log_parse(file + length, size - 5 - length, CFS_BANK_SHA256, &log, &why) ||
	    cfs_uki_parse(read_at, (void *)file, length, CFS_BANK_SHA256, profile, &uki, &why))
		return 0;
	switch (cfs_proof_sections(&uki, &log, CFS_BANK_SHA256, profile, name, &why)) {
	case 0:
		PROMISE(why == NULL && name[0] == '\0');
		check(&uki, &log, 32);
		break;
	case -EBADMSG:
		PROMISE(why != NULL && name[8] == '\0');
		break;
	default:
		PROMISE(false);
	}
	PROMISE(cfs_proof_sections(&uki, &log, 0x12, profile, name, &why) == -EPROTONOSUPPORT);
	return 0;
}
