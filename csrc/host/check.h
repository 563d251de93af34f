/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* All objects of a store: is the content of each what its name says? */
#ifndef CFS_HOST_CHECK_H
#define CFS_HOST_CHECK_H

#include "measure.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cfs
{

struct Looked {
	std::string path; /* below the store */
	std::string digits;
	Measured measured;
};

struct Where {
	int store;	     /* a descriptor of it, and where in it the directories of objects are */
	std::string objects; /* "objects/", or nothing */
	bool ostree;	     /* names end in .file, and are no digests of fs-verity */
	bool sealed;	     /* an object without fs-verity is not right */
};

class Checked {
    public:
	/* `images`: names of objects that lie in images/ of the store. By `threads` threads. */
	void run(const Where &where, const std::vector<std::string> &images, unsigned threads,
		 const Progress &progress);

	/* errno: this directory of the store cannot be read. Nothing was checked then. */
	int error = 0;
	std::string unreadable;

	uint64_t objects = 0;
	uint64_t sealed = 0;
	std::vector<Looked> wrong;
	std::vector<std::string> strange; /* below the store: neither object nor hidden */

	/* Of these names below the directories of objects, sorted, those that were not read here as
	 * regular files. */
	std::vector<std::string_view> others(const std::vector<std::string_view> &names) const;

    private:
	int list(const Where &where, unsigned threads, const Progress &progress);
	void judge(const Where &where, std::vector<Measured> &found);

	std::vector<File> files_;      /* sorted; the images behind them */
	std::vector<bool> read_;       /* of each: a regular file, and read to its end */
	std::vector<std::string> digits_;
	size_t before_ = 0; /* what stands in each name before the directory */
	size_t of_objects_ = 0;
};

} // namespace cfs

#endif
