/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * A composefs image: EROFS with one block size and no compression, whose regular files lie elsewhere
 * or, small ones, in the image itself.
 *
 * Memory in, values out: no system call, nothing printed. An image may be anybody's. All that is
 * read is checked before, nothing recurses, and time and memory are bounded by the image's size.
 * What breaks a rule throws Malformed. Views point into the memory that was given.
 */
#ifndef CFS_HOST_EROFS_H
#define CFS_HOST_EROFS_H

#include "format.h"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace cfs
{

/* The broken rule, and at which byte of the image. */
class Malformed : public std::exception {
    public:
	Malformed(const char *rule, uint64_t offset) noexcept : rule_(rule), offset_(offset)
	{
	}
	const char *what() const noexcept override
	{
		return rule_;
	}
	uint64_t offset() const noexcept
	{
		return offset_;
	}

    private:
	const char *rule_;
	uint64_t offset_;
};

struct Inode {
	uint64_t nid;    /* its number: where it lies, in units of 32 bytes */
	uint64_t offset; /* in the image */
	uint64_t size;
	int64_t mtime;
	uint32_t mtime_nsec;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint32_t rdev;  /* of devices, as the kernel encodes it */
	uint32_t place; /* first block, or how chunks are */
	uint64_t xattrs;
	uint32_t xattr_size;
	uint64_t tail; /* what follows the xattrs */
	uint16_t mode;
	Layout layout;

	bool is_directory() const;
	bool is_regular() const;
	bool is_link() const;
	/* overlayfs hides the name, also in what composefs itself adds at the top */
	bool is_whiteout() const;
};

struct Xattr {
	std::string name;
	std::string_view value;
	bool mark; /* one that the writer gives to whiteouts and to their directories */
};

/* The xattrs of an inode, as overlayfs and composefs mean them. */
struct Attributes {
	std::string_view payload; /* where the content is, below the store; empty: nowhere */
	std::string_view digest;  /* fs-verity, 32 or 64 raw bytes, or empty */
	bool whiteout = false;    /* a regular file that stands for a whiteout of the tree */
	bool by_user = false;     /* and that says so for overlays of users too */
	bool redirected = false;
	bool metacopy = false;
	std::vector<Xattr> others;

	void clear();
};

class Image {
    public:
	/* Checks both headers and the size. */
	explicit Image(std::string_view data);

	uint32_t version() const /* of composefs */
	{
		return version_;
	}
	uint64_t root() const
	{
		return root_;
	}
	uint64_t size() const
	{
		return data_.size();
	}
	/* The numbers of inodes are below. */
	uint64_t slots() const;

	Inode inode(uint64_t nid) const;

	/* How many blocks the data of a directory has, and one of them. */
	uint64_t blocks(const Inode &inode) const;
	std::string_view block(const Inode &inode, uint64_t number) const;

	/* Of a link or a regular file in the image; whole, also where its end is elsewhere. */
	std::string content(const Inode &inode) const;

	/* `all` false: payload, digest and whiteout only. */
	void attributes(const Inode &inode, bool all, Attributes &out) const;

    private:
	std::string_view at(uint64_t offset, uint64_t length, const char *rule) const;
	uint64_t take(uint64_t offset, bool all, uint64_t end, Attributes &out) const;

	std::string_view data_;
	uint64_t meta_ = 0;
	uint64_t shared_ = 0;
	uint64_t root_ = 0;
	int64_t build_time_ = 0;
	uint32_t build_time_nsec_ = 0;
	uint32_t version_ = 0;
};

/* Every name of an image, the root first and a directory before what is in it. Whiteouts that
 * overlayfs hides are passed over. */
class Walk {
    public:
	/* A whiteout that was passed over: its number, its directory's, and before which name. */
	struct Hidden {
		uint64_t directory;
		uint64_t inode;
		uint32_t before;
	};

	explicit Walk(const Image &image, std::vector<Hidden> *hidden = nullptr);

	bool next(); /* false: that was all */
	/* Not into the directory that it is at. */
	void pass_over();

	const std::string &path() const /* "/usr/bin"; "" is the root */
	{
		return path_;
	}
	const Inode &inode() const
	{
		return inode_;
	}
	/* The inode had a name before: a hard link. */
	bool again() const
	{
		return again_;
	}
	std::string first_path() const; /* that name */

	/* Which of all names, from 0; the same in each walk. Its path, as soon as it was there. */
	uint32_t name() const
	{
		return static_cast<uint32_t>(names_.size() - 1);
	}
	std::string path_of(uint32_t name) const;
	/* The number of the directory that it is in. */
	uint64_t directory() const
	{
		return directory_;
	}

    private:
	struct Directory {
		Inode inode;
		uint64_t parent;
		uint64_t block;
		uint64_t blocks;
		std::string_view data;
		std::string_view previous; /* name */
		size_t entry;
		size_t entries;
		size_t path_length;
		uint32_t name;
	};
	struct Name {
		uint32_t parent;
		std::string_view name;
	};

	void see(uint32_t name);
	void enter(uint64_t parent, uint32_t name);
	bool step(Directory &directory);

	const Image &image_;
	std::vector<Hidden> *hidden_;
	std::vector<Directory> stack_;
	std::vector<Name> names_;
	std::vector<uint32_t> seen_; /* by number: the first name and 1, or 0 */
	std::string path_;
	Inode inode_;
	uint64_t directory_ = 0;
	uint64_t count_ = 0;
	uint64_t used_ = 0;
	bool started_ = false;
	bool again_ = false;
};

} // namespace cfs

#endif
