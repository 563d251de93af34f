/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Copies of files, on their way from the threads that make them to who names them. */
#ifndef CFS_HOST_COPIES_H
#define CFS_HOST_COPIES_H

#include "newfile.h"
#include "pool.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <unordered_set>
#include <vector>

namespace cfs
{

/* A copy of a file, complete. */
struct Stored {
	std::string path; /* below the directory */
	NewFile file;
	std::string digest; /* raw */
	uint64_t size;
};

/* Where files are copied to while they are hashed, each content once. */
struct Target {
	NewFiles &files;
	size_t limit; /* how many copies there may be at a time that nobody has taken */
	/* By the thread that called: takes what is there when there are so many, or 16 MiB of
	 * them, and in the end. */
	std::function<void(std::vector<Stored> &)> take;
};

/* What an error is said of. */
constexpr char COPY[] = "its copy in the store";

/* Those that nobody has taken. Without a target nothing is copied. */
class Copies {
    public:
	Copies(Pool &pool, const Target *target) : pool_(pool), target_(target)
	{
	}

	/* Inside of the pool's wait(): may there be so many more? Else they are handed over. */
	bool have_room(size_t more);
	/* Inside of its wake(). */
	void put(Stored &&copy);
	/* By the thread that called, outside of both: when there are enough; in the end `all`. */
	void hand_over(bool all);

    private:
	Pool &pool_;
	const Target *target_;
	/* The pool's lock is on these. */
	std::vector<Stored> waiting_;
	std::unordered_set<std::string> digests_; /* of all that ever were */
	uint64_t bytes_ = 0; /* of these */
	bool full_ = false;
};

} // namespace cfs

#endif
