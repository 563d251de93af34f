/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The hashes of PCR banks; their values are tested against libcrypto. */
#include "fuzz.h"
#include "cfs.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct {
		uint16_t bank;
		int size;
	} banks[] = {
		{ CFS_BANK_SHA1, 20 },
		{ CFS_BANK_SHA256, 32 },
		{ CFS_BANK_SHA384, 48 },
		{ CFS_BANK_SHA512, 64 },
	};
	uint8_t digest[CFS_DIGEST_MAX], again[CFS_DIGEST_MAX];

	for (size_t i = 0; i < sizeof(banks) / sizeof(banks[0]); i++) {
		memset(digest, 0, sizeof(digest));
		PROMISE(cfs_sha(banks[i].bank, data, size, digest) == banks[i].size);
		for (int at = banks[i].size; at < CFS_DIGEST_MAX; at++)
			PROMISE(digest[at] == 0);
		if (size == 0)
			continue;
		PROMISE(cfs_sha(banks[i].bank, data, size - 1, again) == banks[i].size);
		PROMISE(memcmp(digest, again, (size_t)banks[i].size) != 0);
	}
	PROMISE(cfs_sha((uint16_t)size, data, size, digest) == -EPROTONOSUPPORT || size < 16);
	return 0;
}
