/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * SHA-256 of several blocks at once, where the processor has instructions for it. Each of these
 * waits for the one before; those of another block fill that time. libcrypto has no such call, and
 * fs-verity has many blocks whose hashes do not depend on each other.
 */
#ifndef CFS_HOST_LANES_H
#define CFS_HOST_LANES_H

#include <cstddef>
#include <cstdint>

namespace cfs
{

/* The hashes, 32 bytes each, of blocks of `size` bytes that lie one behind the other: of as many of
 * `count` as are quicker so. Returns how many these are, from the first one; 0 on other processors.
 * `size`: a multiple of 64. */
size_t hash_in_lanes(const uint8_t *data, size_t size, size_t count, uint8_t *out);

} // namespace cfs

#endif
