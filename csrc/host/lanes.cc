/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "lanes.h"

#ifdef __x86_64__

#include <cpuid.h>
#include <immintrin.h>

#include <array>

#define BY_CPU __attribute__((target("sha,ssse3,sse4.1")))

namespace cfs
{

namespace
{

constexpr size_t PIECE = 64; /* of SHA-256 */
constexpr size_t HASH = 32;

/* FIPS 180-4, 4.2.2 and 5.3.3. */
alignas(16) constexpr std::array<uint32_t, 64> CONSTANTS = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2,
};
constexpr int FIRST[8] = {
	0x6a09e667,
	static_cast<int>(0xbb67ae85),
	0x3c6ef372,
	static_cast<int>(0xa54ff53a),
	0x510e527f,
	static_cast<int>(0x9b05688c),
	0x1f83d9ab,
	0x5be0cd19,
};

bool has_sha()
{
	constexpr unsigned SSSE3 = 1U << 9, SSE4_1 = 1U << 19, SHA = 1U << 29;
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && c & SSSE3 && c & SSE4_1 &&
	       __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & SHA;
}

/* Intel, "Software Developer's Manual": SHA256RNDS2 does two rounds, and has A, B, E, F in one
 * register and C, D, G, H in the other, the first of them on top. What was the one is then the
 * other. */
template <size_t LANES> struct State {
	__m128i one[LANES], other[LANES];
};

/* The next piece of each lane. */
template <size_t LANES>
BY_CPU inline void add(State<LANES> &state, const std::array<const uint8_t *, LANES> &pieces)
{
	const __m128i swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
	const State<LANES> before = state;
	__m128i words[LANES][4];

#pragma GCC unroll 16
	for (size_t t = 0; t < 16; t++) {
		const __m128i constants =
			_mm_load_si128(reinterpret_cast<const __m128i *>(&CONSTANTS[4 * t]));

#pragma GCC unroll 4
		for (size_t lane = 0; lane < LANES; lane++) {
			/* Of four words, the lowest first: those 16, 12, 8 and 4 before. */
			__m128i *w = words[lane], sum;
			const __m128i &w16 = w[t % 4], &w12 = w[(t + 1) % 4];
			const __m128i &w8 = w[(t + 2) % 4], &w4 = w[(t + 3) % 4];

			if (t < 4) {
				sum = _mm_loadu_si128(
					reinterpret_cast<const __m128i *>(pieces[lane] + 16 * t));
				sum = _mm_shuffle_epi8(sum, swap);
			} else {
				sum = _mm_add_epi32(_mm_sha256msg1_epu32(w16, w12),
						    _mm_alignr_epi8(w4, w8, 4));
				sum = _mm_sha256msg2_epu32(sum, w4);
			}
			w[t % 4] = sum;
			sum = _mm_add_epi32(sum, constants);
			state.other[lane] = _mm_sha256rnds2_epu32(state.other[lane],
								  state.one[lane], sum);
			state.one[lane] = _mm_sha256rnds2_epu32(state.one[lane], state.other[lane],
								_mm_unpackhi_epi64(sum, sum));
		}
	}
	for (size_t lane = 0; lane < LANES; lane++) {
		state.one[lane] = _mm_add_epi32(state.one[lane], before.one[lane]);
		state.other[lane] = _mm_add_epi32(state.other[lane], before.other[lane]);
	}
}

template <size_t LANES> BY_CPU void hash(const uint8_t *data, size_t size, uint8_t *out)
{
	const __m128i swap = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	std::array<const uint8_t *, LANES> pieces;
	State<LANES> state;
	uint8_t last[PIECE] = { 0x80 };

	for (size_t i = 0; i < sizeof(uint64_t); i++)
		last[PIECE - 1 - i] = static_cast<uint8_t>(uint64_t{ size } * 8 >> (8 * i));
	for (size_t lane = 0; lane < LANES; lane++) {
		pieces[lane] = data + lane * size;
		state.one[lane] = _mm_set_epi32(FIRST[0], FIRST[1], FIRST[4], FIRST[5]);
		state.other[lane] = _mm_set_epi32(FIRST[2], FIRST[3], FIRST[6], FIRST[7]);
	}
	for (size_t done = 0; done < size; done += PIECE) {
		add(state, pieces);
		for (const uint8_t *&piece : pieces)
			piece += PIECE;
	}
	pieces.fill(last);
	add(state, pieces);
	for (size_t lane = 0; lane < LANES; lane++) {
		/* A, B, C, D and E, F, G, H, each with its highest byte first. */
		__m128i first = _mm_unpackhi_epi64(state.other[lane], state.one[lane]);
		__m128i second = _mm_unpacklo_epi64(state.other[lane], state.one[lane]);
		auto *hash = reinterpret_cast<__m128i *>(out + lane * HASH);

		_mm_storeu_si128(hash, _mm_shuffle_epi8(first, swap));
		_mm_storeu_si128(hash + 1, _mm_shuffle_epi8(second, swap));
	}
}

} // namespace

size_t hash_in_lanes(const uint8_t *data, size_t size, size_t count, uint8_t *out)
{
	static const bool known = has_sha();
	size_t done = 0;

	if (!known)
		return 0;
	for (; count - done >= 4; done += 4)
		hash<4>(data + done * size, size, out + done * HASH);
	for (; count - done >= 2; done += 2)
		hash<2>(data + done * size, size, out + done * HASH);
	return done;
}

} // namespace cfs

#else

namespace cfs
{

size_t hash_in_lanes(const uint8_t *, size_t, size_t, uint8_t *)
{
	return 0;
}

} // namespace cfs

#endif
