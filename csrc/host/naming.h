/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Copies get their names: a name for each, which is no other file's. */
#ifndef CFS_HOST_NAMING_H
#define CFS_HOST_NAMING_H

#include "newfile.h"
#include "pool.h"

#include <string>
#include <vector>

namespace cfs
{

struct Unnamed {
	NewFile file;
	std::string name; /* the one that it gets, below the directory */
	int error = 0;	  /* EEXIST: something has it. ECANCELED: another one had an error */
};

/* By `threads` threads where there are many. Each file is closed then, and keeps no other name.
 * After an error, but EEXIST, the rest gets no names. What `progress` throws ends it. NoThread. */
void give_names(int directory, std::vector<Unnamed> &files, unsigned threads,
		const Progress &progress);

} // namespace cfs

#endif
