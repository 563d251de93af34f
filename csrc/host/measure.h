/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Files of a store, read and hashed on all cores. */
#ifndef CFS_HOST_MEASURE_H
#define CFS_HOST_MEASURE_H

#include "newfile.h"
#include "pool.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cfs
{

struct File {
	std::string name; /* below the directory that is given with it; a link is not followed */
	int algorithm;    /* of fs-verity */
	int fd = -1;	  /* where it is open already; the caller's */
};

struct Measured {
	int error = 0; /* errno: it cannot be opened or read */
	bool regular = true;
	bool sealed = false;   /* fs-verity is on */
	std::string digest;    /* of what is read, raw */
	std::string by_kernel; /* of a sealed file; empty where the kernel does not tell */
};

/* By `threads` threads; a large file by all of them. Of each file, in the same order; what was not
 * reached is empty. */
std::vector<Measured> measure(int directory, const std::vector<File> &files, unsigned threads,
			      bool follow, const Progress &progress);

/* The same, and each regular file is copied into a new one without a name. */
struct Copied {
	int error = 0;
	bool ours = false; /* the error is that of the copy */
	bool regular = true;
	NewFile file;
	std::string digest;
	uint64_t size = 0;
};

/* The copies share blocks with their sources if that can be. */
std::vector<Copied> copy(NewFiles &where, const std::vector<File> &files, unsigned threads,
			 bool follow, const Progress &progress);

} // namespace cfs

#endif
