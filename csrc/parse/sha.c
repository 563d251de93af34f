/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "../cfs.h"

#include <errno.h>
#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

/* FIPS 180-4. The code is small; that of SHA-2, by which whole UKIs are hashed, is quick too, and
 * SHA-256 is the processor's where it has that. */

/* Fractional parts of the cube roots of the first eighty primes; SHA-256 has the upper halves. */
static const uint64_t cubes[80] = {
	0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc,
	0x3956c25bf348b538, 0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118,
	0xd807aa98a3030242, 0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
	0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235, 0xc19bf174cf692694,
	0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
	0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
	0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4,
	0xc6e00bf33da88fc2, 0xd5a79147930aa725, 0x06ca6351e003826f, 0x142929670a0e6e70,
	0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
	0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
	0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30,
	0xd192e819d6ef5218, 0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
	0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8,
	0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3,
	0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
	0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b,
	0xca273eceea26619c, 0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178,
	0x06f067aa72176fba, 0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
	0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc, 0x431d67c49c100d4c,
	0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
};

/* Square roots, as above: of the first eight primes, and for SHA-384 of the next eight. */
static const uint64_t first_512[8] = {
	0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
	0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};
static const uint64_t first_384[8] = {
	0xcbbb9d5dc1059ed8, 0x629a292a367cd507, 0x9159015a3070dd17, 0x152fecd8f70e5939,
	0x67332667ffc00b31, 0x8eb44a8768581511, 0xdb0c2e0d64f98fa7, 0x47b5481dbefa4fa4,
};

static uint64_t big_endian(const uint8_t *at, size_t size)
{
	uint64_t value = 0;

	while (size--)
		value = value << 8 | *at++;
	return value;
}

static void to_big_endian(uint64_t value, uint8_t *at, size_t size)
{
	while (size--) {
		at[size] = (uint8_t)value;
		value >>= 8;
	}
}

static uint32_t right32(uint32_t value, int count)
{
	return value >> count | value << (32 - count);
}

static uint64_t right64(uint64_t value, int count)
{
	return value >> count | value << (64 - count);
}

static void sha1_block(struct cfs_sha *state, const uint8_t *block)
{
	static const uint32_t constants[4] = { 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6 };
	uint32_t *s = state->small, v[5], w[80];

	for (size_t t = 0; t < 80; t++)
		w[t] = t < 16 ? (uint32_t)big_endian(block + 4 * t, 4)
			      : right32(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 31);
	memcpy(v, s, sizeof(v));
	for (size_t t = 0; t < 80; t++) {
		uint32_t f = v[1] ^ v[2] ^ v[3], sum;

		if (t < 20)
			f = (v[1] & v[2]) | (~v[1] & v[3]);
		else if (t >= 40 && t < 60)
			f = (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3]);
		sum = right32(v[0], 27) + f + v[4] + constants[t / 20] + w[t];
		memmove(v + 1, v, 4 * sizeof(*v));
		v[2] = right32(v[2], 2);
		v[0] = sum;
	}
	for (size_t i = 0; i < 5; i++)
		s[i] += v[i];
}

static void sha256_block(struct cfs_sha *state, const uint8_t *block)
{
	uint32_t *s = state->small, w[64];

	for (size_t t = 0; t < 64; t++) {
		if (t < 16) {
			w[t] = (uint32_t)big_endian(block + 4 * t, 4);
		} else {
			uint32_t a = w[t - 15], b = w[t - 2];

			w[t] = w[t - 16] + (right32(a, 7) ^ right32(a, 18) ^ a >> 3) + w[t - 7] +
			       (right32(b, 17) ^ right32(b, 19) ^ b >> 10);
		}
	}
	/* In eight variables and not in an array, which would be moved in memory: twice as fast. */
	uint32_t a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];

	for (size_t t = 0; t < 64; t++) {
		uint32_t one = h + (right32(e, 6) ^ right32(e, 11) ^ right32(e, 25)) +
			       (g ^ (e & (f ^ g))) + (uint32_t)(cubes[t] >> 32) + w[t];
		uint32_t two = (right32(a, 2) ^ right32(a, 13) ^ right32(a, 22)) +
			       ((a & b) ^ (c & (a ^ b)));

		h = g;
		g = f;
		f = e;
		e = d + one;
		d = c;
		c = b;
		b = a;
		a = one + two;
	}
	s[0] += a;
	s[1] += b;
	s[2] += c;
	s[3] += d;
	s[4] += e;
	s[5] += f;
	s[6] += g;
	s[7] += h;
}

#ifdef __x86_64__
enum { SSSE3 = 1 << 9, SSE4_1 = 1 << 19, SHA = 1 << 29 };

static bool has_sha(void)
{
	uint32_t a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & SSSE3) != 0 && (c & SSE4_1) != 0 &&
	       __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & SHA) != 0;
}

/* Intel, "Software Developer's Manual": SHA256RNDS2 does two rounds, and has A, B, E, F in one
 * register and C, D, G, H in the other, the first of them on top. What was the one is then the other.
 */
__attribute__((target("sha,ssse3,sse4.1")))
static void sha256_block_by_cpu(struct cfs_sha *state, const uint8_t *block)
{
	const __m128i swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
	int s[8];
	__m128i one, other, before_one, before_other, w[4];

	memcpy(s, state->small, sizeof(s));
	before_one = one = _mm_set_epi32(s[0], s[1], s[4], s[5]);
	before_other = other = _mm_set_epi32(s[2], s[3], s[6], s[7]);
	for (size_t t = 0; t < 16; t++) {
		/* Of four words, the lowest first: those 16, 12, 8 and 4 before. */
		const __m128i *w16 = &w[t % 4], *w12 = &w[(t + 1) % 4];
		const __m128i *w8 = &w[(t + 2) % 4], *w4 = &w[(t + 3) % 4];
		__m128i low, high, sum;

		if (t < 4) {
			memcpy(&sum, block + 16 * t, sizeof(sum));
			sum = _mm_shuffle_epi8(sum, swap);
		} else {
			sum = _mm_add_epi32(_mm_sha256msg1_epu32(*w16, *w12),
					    _mm_alignr_epi8(*w4, *w8, 4));
			sum = _mm_sha256msg2_epu32(sum, *w4);
		}
		w[t % 4] = sum;
		memcpy(&low, cubes + 4 * t, sizeof(low));
		memcpy(&high, cubes + 4 * t + 2, sizeof(high));
		sum = _mm_add_epi32(sum, _mm_castps_si128(_mm_shuffle_ps(
						 _mm_castsi128_ps(low), _mm_castsi128_ps(high),
						 _MM_SHUFFLE(3, 1, 3, 1))));
		other = _mm_sha256rnds2_epu32(other, one, sum);
		one = _mm_sha256rnds2_epu32(one, other, _mm_unpackhi_epi64(sum, sum));
	}
	one = _mm_add_epi32(one, before_one);
	other = _mm_add_epi32(other, before_other);
	s[0] = _mm_extract_epi32(one, 3);
	s[1] = _mm_extract_epi32(one, 2);
	s[2] = _mm_extract_epi32(other, 3);
	s[3] = _mm_extract_epi32(other, 2);
	s[4] = _mm_extract_epi32(one, 1);
	s[5] = _mm_extract_epi32(one, 0);
	s[6] = _mm_extract_epi32(other, 1);
	s[7] = _mm_extract_epi32(other, 0);
	memcpy(state->small, s, sizeof(s));
}
#endif

static void sha512_block(struct cfs_sha *state, const uint8_t *block)
{
	uint64_t *s = state->large, w[80];

	for (size_t t = 0; t < 80; t++) {
		if (t < 16) {
			w[t] = big_endian(block + 8 * t, 8);
		} else {
			uint64_t a = w[t - 15], b = w[t - 2];

			w[t] = w[t - 16] + (right64(a, 1) ^ right64(a, 8) ^ a >> 7) + w[t - 7] +
			       (right64(b, 19) ^ right64(b, 61) ^ b >> 6);
		}
	}
	uint64_t a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];

	for (size_t t = 0; t < 80; t++) {
		uint64_t one = h + (right64(e, 14) ^ right64(e, 18) ^ right64(e, 41)) +
			       (g ^ (e & (f ^ g))) + cubes[t] + w[t];
		uint64_t two = (right64(a, 28) ^ right64(a, 34) ^ right64(a, 39)) +
			       ((a & b) ^ (c & (a ^ b)));

		h = g;
		g = f;
		f = e;
		e = d + one;
		d = c;
		c = b;
		b = a;
		a = one + two;
	}
	s[0] += a;
	s[1] += b;
	s[2] += c;
	s[3] += d;
	s[4] += e;
	s[5] += f;
	s[6] += g;
	s[7] += h;
}

enum {
	SHA256 = 1, /* its place, and behind it the processor's */
	SHA256_BY_CPU,
	ASK_FROM = 256, /* bytes at once */
};

static const struct algorithm {
	uint16_t name;
	uint8_t digest, block, word;
	void (*compress)(struct cfs_sha *state, const uint8_t *block);
} algorithms[] = {
	{ CFS_BANK_SHA1, 20, 64, 4, sha1_block },
	{ CFS_BANK_SHA256, 32, 64, 4, sha256_block },
#ifdef __x86_64__
	{ CFS_BANK_SHA256, 32, 64, 4, sha256_block_by_cpu },
#endif
	{ CFS_BANK_SHA384, 48, 128, 8, sha512_block },
	{ CFS_BANK_SHA512, 64, 128, 8, sha512_block },
};

void cfs_sha_again(struct cfs_sha *state)
{
	static const uint32_t sha1[5] = {
		0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0,
	};
	const uint16_t bank = algorithms[state->algorithm].name;

	state->size = 0;
	memcpy(state->large, bank == CFS_BANK_SHA384 ? first_384 : first_512, sizeof(first_512));
	for (size_t i = 0; i < 8; i++)
		state->small[i] = (uint32_t)(first_512[i] >> 32);
	if (bank == CFS_BANK_SHA1)
		memcpy(state->small, sha1, sizeof(sha1));
}

int cfs_sha_begin(struct cfs_sha *state, uint16_t bank)
{
	state->algorithm = 0;
	while (algorithms[state->algorithm].name != bank)
		if (++state->algorithm == sizeof(algorithms) / sizeof(*algorithms))
			return -EPROTONOSUPPORT;
	state->asked = false;
	cfs_sha_again(state);
	return algorithms[state->algorithm].digest;
}

/* The processor is asked once for each hash, and where that is worth it: a virtual machine stops at
 * the question. Nothing keeps the answer: what starts a snapshot is not what has made it. */
static void ask(struct cfs_sha *state, size_t size)
{
#ifdef __x86_64__
	if (state->asked || size < ASK_FROM || state->algorithm != SHA256)
		return;
	state->asked = true;
	if (has_sha())
		state->algorithm = SHA256_BY_CPU;
#else
	(void)state;
	(void)size;
#endif
}

void cfs_sha_add(struct cfs_sha *state, const uint8_t *data, size_t size)
{
	const struct algorithm *used;
	size_t held;

	if (size == 0)
		return;
	ask(state, size);
	used = &algorithms[state->algorithm];
	held = state->size % used->block;
	state->size += size;
	if (held > 0) {
		size_t more = used->block - held < size ? used->block - held : size;

		memcpy(state->pending + held, data, more);
		if (held + more < used->block)
			return;
		used->compress(state, state->pending);
		data += more;
		size -= more;
	}
	for (; size >= used->block; size -= used->block, data += used->block)
		used->compress(state, data);
	memcpy(state->pending, data, size);
}

int cfs_sha_end(struct cfs_sha *state, uint8_t out[CFS_DIGEST_MAX])
{
	const struct algorithm *used = &algorithms[state->algorithm];
	uint64_t size = state->size;
	uint8_t last[2 * 128] = { 0x80 };
	/* One bit, zeros, and the length in bits: two words of it, the first is zero. */
	size_t held = size % used->block;
	size_t padding = (held + 1 + 2U * used->word <= used->block ? 1U : 2U) * used->block - held;

	to_big_endian(size * 8, last + padding - 8, 8);
	cfs_sha_add(state, last, padding);
	for (size_t at = 0; at < used->digest; at += used->word)
		to_big_endian(used->word == 4 ? state->small[at / 4] : state->large[at / 8], out + at,
			      used->word);
	return used->digest;
}

int cfs_sha(uint16_t bank, const uint8_t *data, size_t size, uint8_t out[CFS_DIGEST_MAX])
{
	struct cfs_sha state;

	if (cfs_sha_begin(&state, bank) < 0)
		return -EPROTONOSUPPORT;
	cfs_sha_add(&state, data, size);
	return cfs_sha_end(&state, out);
}
