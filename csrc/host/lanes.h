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

/* Hashes blocks of `size` bytes, a multiple of 64, that lie one behind the other: up to `count`, and
 * only as many as that is quicker for. Returns how many, from the first one on; 0 on a processor
 * without these instructions. `out`: 32 bytes for each. */
size_t hash_in_lanes(const uint8_t *data, size_t size, size_t count, uint8_t *out);

} // namespace cfs

#endif
