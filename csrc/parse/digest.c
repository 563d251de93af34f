/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "digest.h"
#include "cfs.h"

#include <errno.h>
#include <string.h>

static const char digits[] = "0123456789abcdef";

static const struct {
	const char *text; /* up to and with the colon */
	uint16_t algorithm;
} prefixes[] = {
	{ "sha256:", CFS_SHA256 },
	{ "sha512:", CFS_SHA512 },
	{ "fsverity-sha256-12:", CFS_SHA256 },
	{ "fsverity-sha512-12:", CFS_SHA512 },
};

uint16_t cfs_digest_size(uint16_t algorithm)
{
	switch (algorithm) {
	case CFS_SHA256:
		return 32;
	case CFS_SHA512:
		return 64;
	default:
		return 0;
	}
}

static bool is_valid(const struct cfs_digest *digest)
{
	return digest->size != 0 && digest->size == cfs_digest_size(digest->algorithm);
}

/* The algorithm that a prefix of `length` characters (with its colon) names; 0: unknown. */
static uint16_t prefix_algorithm(const char *text, size_t length)
{
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strlen(prefixes[i].text) == length &&
		    memcmp(prefixes[i].text, text, length) == 0)
			return prefixes[i].algorithm;
	return 0;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -EILSEQ;
}

int cfs_digest_parse(const char *text, size_t length, struct cfs_digest *out)
{
	struct cfs_digest digest = { 0 };
	const char *colon;
	size_t prefix;

	if (length == 0)
		return -ENODATA;

	colon = memchr(text, ':', length);
	if (colon) {
		prefix = (size_t)(colon - text) + 1;
		digest.algorithm = prefix_algorithm(text, prefix);
		if (digest.algorithm == 0)
			return -EPROTONOSUPPORT;
		text += prefix;
		length -= prefix;
	} else {
		digest.algorithm = length == 128 ? CFS_SHA512 : CFS_SHA256;
	}

	digest.size = cfs_digest_size(digest.algorithm);
	if (length != 2 * (size_t)digest.size)
		return -EMSGSIZE;
	for (size_t i = 0; i < digest.size; i++) {
		int high = hex_value(text[2 * i]);
		int low = hex_value(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EILSEQ;
		digest.bytes[i] = (uint8_t)(high << 4 | low);
	}
	*out = digest;
	return 0;
}

int cfs_digest_format(const struct cfs_digest *digest, char out[CFS_DIGEST_HEX_MAX])
{
	if (!is_valid(digest))
		return -EINVAL;
	for (size_t i = 0; i < digest->size; i++) {
		out[2 * i] = digits[digest->bytes[i] >> 4];
		out[2 * i + 1] = digits[digest->bytes[i] & 15];
	}
	out[2 * (size_t)digest->size] = '\0';
	return 0;
}

bool cfs_digest_equal(const struct cfs_digest *a, const struct cfs_digest *b)
{
	return is_valid(a) && is_valid(b) && a->algorithm == b->algorithm &&
	       memcmp(a->bytes, b->bytes, a->size) == 0;
}
