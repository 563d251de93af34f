/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Files of a store, read and hashed on all cores. */
#ifndef CFS_HOST_MEASURE_H
#define CFS_HOST_MEASURE_H

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
};

/* What is read and hashed at a time: it stays in the cache in between. */
constexpr size_t PIECE = size_t{ 1 } << 18;

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
	int fd = -1;	  /* of the copy, open for reading and writing; the caller's */
	std::string name; /* of the copy, where the file system has only those with one */
	std::string digest;
	uint64_t size = 0;
};

/* The copies lie in the file system of `target`, and share blocks with their sources if that can
 * be. Where it has no O_TMPFILE (EOPNOTSUPP, EISDIR), or with `named`, a copy lies in `target`,
 * as `.PREFIX.NUMBER.tmp`. An exception leaves neither names nor descriptors. */
std::vector<Copied> copy(int target, const std::vector<File> &files, unsigned threads, bool follow,
			 bool named, const std::string &prefix, const Progress &progress);

} // namespace cfs

#endif
