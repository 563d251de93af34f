/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Layers, read into a tree: files are hashed, and copied, while they are read. */
#ifndef CFS_HOST_UNPACK_H
#define CFS_HOST_UNPACK_H

#include "blob.h"
#include "layers.h"
#include "pool.h"
#include "scan.h"

#include <cstdint>
#include <vector>

namespace cfs
{

/* Of tar files, the lowest layer first; each is read by one of `threads` threads, and those that
 * have none help. `target` may be null. `memory`: for all but contents, of which there are at most 9
 * buffers (buffer.h) for each layer that is being read. BadLayer. OtherDigest. Unfit. */
Tree unpack_layers(const std::vector<Blob> &layers, unsigned threads, const Adjustment &how,
		   const Progress &progress, const Target *target, uint64_t memory);

} // namespace cfs

#endif
