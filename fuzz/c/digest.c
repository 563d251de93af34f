/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The text of a digest; and, of the same bytes, a struct that no parser made. */
#include "fuzz.h"
#include "cfs.h"

#include <errno.h>
#include <string.h>

static void check_text(const char *text, size_t length)
{
	static const int errors[] = { -ENODATA, -EPROTONOSUPPORT, -EMSGSIZE, -EILSEQ };
	struct cfs_digest digest, again;
	char hex[CFS_DIGEST_HEX_MAX];
	bool declared = false;
	int result = cfs_digest_parse(text, length, &digest);

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		declared = declared || result == errors[i];
	PROMISE(result == 0 || declared);
	PROMISE((result == -ENODATA) == (length == 0));
	if (result)
		return;

	PROMISE(cfs_digest_format(&digest, hex) == 0);
	PROMISE(strlen(hex) == 2 * (size_t)digest.size);
	/* What was read is the end of the text, to the letter. */
	PROMISE(length >= strlen(hex) && !memcmp(text + length - strlen(hex), hex, strlen(hex)));
	PROMISE(cfs_digest_parse(hex, strlen(hex), &again) == 0);
	PROMISE(cfs_digest_equal(&digest, &again));
	again.bytes[digest.size - 1] ^= 1;
	PROMISE(!cfs_digest_equal(&digest, &again));
}

static void check_struct(const uint8_t *data, size_t size)
{
	struct cfs_digest digest = { 0 };
	char hex[CFS_DIGEST_HEX_MAX];
	int result;

	memcpy(&digest, data, size < sizeof(digest) ? size : sizeof(digest));
	digest.algorithm &= 3;
	result = cfs_digest_format(&digest, hex);
	PROMISE(result == 0 || result == -EINVAL);
	PROMISE(cfs_digest_equal(&digest, &digest) == (result == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_text((const char *)data, size);
	check_struct(data, size);
	return 0;
}
