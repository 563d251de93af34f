/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* An event log, for each bank: what was taken is in it, and gives the values said. */
#include "fuzz.h"
#include "cfs.h"

#include <errno.h>
#include <string.h>

static bool contains(const uint8_t *data, size_t size, const uint8_t *digest, size_t length)
{
	return memmem(data, size, digest, length) != NULL;
}

static void check(const uint8_t *data, size_t size, uint16_t bank, const struct cfs_log_events *log)
{
	static const uint8_t zero[CFS_DIGEST_MAX];
	uint8_t pcr[CFS_DIGEST_MAX] = { 0 }, both[2 * CFS_DIGEST_MAX];
	size_t length = (size_t)cfs_sha(bank, NULL, 0, both);

	PROMISE(log->count <= CFS_LOG_EVENTS_MAX);
	for (uint32_t i = 0; i < log->count; i++) {
		PROMISE(contains(data, size, log->events[i], length));
		memcpy(both, pcr, length);
		memcpy(both + length, log->events[i], length);
		PROMISE(cfs_sha(bank, both, 2 * length, pcr) == (int)length);
	}
	PROMISE(memcmp(pcr, log->pcr_11, sizeof(pcr)) == 0);
	if (log->has_image)
		PROMISE(contains(data, size, log->image, length) && memcmp(log->pcr_4, zero, length));
	else
		PROMISE(memcmp(log->image, zero, sizeof(zero)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint16_t banks[] = {
		CFS_BANK_SHA1, CFS_BANK_SHA256, CFS_BANK_SHA384, CFS_BANK_SHA512,
	};
	static struct cfs_log_events log;
	static uint8_t *large;
	const char *why;

	for (size_t i = 0; i < sizeof(banks) / sizeof(banks[0]); i++) {
		int result = cfs_log_parse(data, size, banks[i], &log, &why);

		PROMISE(result == 0 || result == -EBADMSG);
		PROMISE((result < 0) == (why != NULL) && log.at <= size);
		if (result == 0)
			check(data, size, banks[i], &log);
	}
	PROMISE(cfs_log_parse(data, size, 0x12, &log, &why) == -EPROTONOSUPPORT && why == NULL);
	if (!large)
		large = calloc(1, (size_t)CFS_LOG_MAX + 1);
	PROMISE(large && cfs_log_parse(large, (size_t)CFS_LOG_MAX + 1, 0xb, &log, &why) == -EBADMSG);
	return 0;
}
