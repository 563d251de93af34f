/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Files of a store, read and hashed on all cores. */
#ifndef CFS_HOST_MEASURE_H
#define CFS_HOST_MEASURE_H

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace cfs
{

struct File {
	std::string name; /* below the directory that is given with it; a link is not followed */
	int algorithm;    /* of fs-verity */
};

struct Measured {
	int error = 0; /* errno: it cannot be opened or read */
	bool regular = true;
	bool sealed = false;   /* fs-verity is on */
	std::string digest;    /* of what is read, raw */
	std::string by_kernel; /* of a sealed file; empty where the kernel does not tell */
};

/* How many files and bytes are done; asked for a tenth of a second at most after the last time.
 * False: stop. */
using Progress = std::function<bool(uint64_t files, uint64_t bytes)>;

/* By `threads` threads. Of each file, in the same order; what was not reached is empty. */
std::vector<Measured> measure(int directory, const std::vector<File> &files, unsigned threads,
			      bool follow, const Progress &progress);

} // namespace cfs

#endif
