/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * A directory, read into a tree as mkcomposefs does it: each name is a file of its own with one
 * link, small files are in the image, and others are known by the digest of their content.
 *
 * No link is followed. A file is opened and read once. If it changes meanwhile, that is an error.
 */
#ifndef CFS_HOST_SCAN_H
#define CFS_HOST_SCAN_H

#include "adjust.h"
#include "newfile.h"
#include "pool.h"
#include "tree.h"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <vector>

namespace cfs
{

/* What cannot be read, or can be in no image. */
class Unreadable : public std::exception {
    public:
	Unreadable(std::string path, int error, const char *rule = "") noexcept
		: path_(std::move(path)), error_(error), rule_(rule)
	{
	}
	/* The broken rule. With an error: what that is said of, empty where it is the file. */
	const char *what() const noexcept override
	{
		return rule_;
	}
	const std::string &path() const noexcept /* below the directory; "" is itself */
	{
		return path_;
	}
	int error() const noexcept
	{
		return error_;
	}

    private:
	std::string path_;
	int error_;
	const char *rule_;
};

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
	/* By the thread that called: takes what is there when there are so many, and in the end. */
	std::function<void(std::vector<Stored> &)> take;
};

/* What mkcomposefs puts into the image itself. */
constexpr uint64_t SMALL = 64;
/* What an error is said of. */
constexpr char COPY[] = "its copy in the store";

/* The content of a file, which lies in the store under its digest. */
void set_digest(const std::string &digest, Arena &arena, Node &node);

/* Hashed by `threads` threads. With `target`, which may be null, copied too. What `how` leaves out
 * is not read. */
Tree scan_tree(int directory, unsigned threads, const Adjustment &how, const Progress &progress,
	       const Target *target);

} // namespace cfs

#endif
