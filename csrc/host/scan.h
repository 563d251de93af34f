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
#include "copies.h"
#include "pool.h"
#include "tree.h"

#include <cstdint>
#include <exception>
#include <string>

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

/* What mkcomposefs puts into the image itself. */
constexpr uint64_t SMALL = 64;

/* The content of a file, which lies in the store under its digest. */
void set_digest(const std::string &digest, Arena &arena, Node &node);

/* Hashed by `threads` threads. With `target`, which may be null, copied too. What `how` leaves out
 * is not read. */
Tree scan_tree(int directory, unsigned threads, const Adjustment &how, const Progress &progress,
	       const Target *target);

} // namespace cfs

#endif
