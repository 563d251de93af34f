/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * A directory, read into a tree as mkcomposefs does it: each name is a file of its own with one
 * link, small files are in the image, and others are known by the digest of their content.
 *
 * No link is followed. A file that changes meanwhile is an error.
 */
#ifndef CFS_HOST_SCAN_H
#define CFS_HOST_SCAN_H

#include "pool.h"
#include "tree.h"

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
	/* The broken rule; empty: `error` says more. */
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

/* Hashed by `threads` threads. */
Tree scan_tree(int directory, unsigned threads, const Progress &progress);

} // namespace cfs

#endif
