/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Layers, read into a tree: files are hashed, and copied, while they are read. */
#ifndef CFS_HOST_UNPACK_H
#define CFS_HOST_UNPACK_H

#include "layers.h"
#include "pool.h"
#include "scan.h"

#include <vector>

namespace cfs
{

/* Of the tar files that are open at these descriptors, the lowest layer first; each by one of
 * `threads` threads. `target` may be null. BadLayer. Unfit. */
Tree unpack_layers(const std::vector<int> &layers, unsigned threads, const Adjustment &how,
		   const Progress &progress, const Target *target);

} // namespace cfs

#endif
