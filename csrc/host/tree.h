/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Files that an image is made of. Their names and contents lie elsewhere, or in the tree's own
 * memory. */
#ifndef CFS_HOST_TREE_H
#define CFS_HOST_TREE_H

#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <initializer_list>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

namespace cfs
{

/* What no image can be made of: the broken rule, and in which line of the source; 0: in none. */
class Unfit : public std::exception {
    public:
	Unfit(std::string rule, uint64_t line) : rule_(std::move(rule)), line_(line)
	{
	}
	const char *what() const noexcept override
	{
		return rule_.c_str();
	}
	uint64_t line() const noexcept
	{
		return line_;
	}

    private:
	std::string rule_;
	uint64_t line_;
};

/* Text that stays where it is as long as this. */
class Arena {
    public:
	char *take(size_t size);
	std::string_view join(std::initializer_list<std::string_view> pieces);

    private:
	std::vector<std::unique_ptr<char[]>> pieces_;
	char *next_ = nullptr;
	size_t left_ = 0;
};

/* Of a million files there are millions. */
class Property {
    public:
	/* Of 255 and 65535 bytes at most. */
	Property(std::string_view name, std::string_view value)
		: name_(name.data()), value_(value.data()),
		  value_size_(static_cast<uint16_t>(value.size())),
		  name_size_(static_cast<uint8_t>(name.size()))
	{
	}
	std::string_view name() const
	{
		return { name_, name_size_ };
	}
	std::string_view value() const
	{
		return { value_, value_size_ };
	}

	uint32_t shared = 0; /* the writer's: where among the shared ones */

    private:
	const char *name_;
	const char *value_;
	uint16_t value_size_;
	uint8_t name_size_;
};

constexpr size_t DIGEST_SIZE = 32, LONG_DIGEST_SIZE = 64; /* of SHA-256 and SHA-512 */

struct Node;

struct Name {
	Node *node;
	bool again; /* a hard link: the node stands elsewhere */
};

/* In the order of images: by bytes. */
using Names = std::map<std::string_view, Name>;

/* A node without the names that are in it: all that can be copied. */
struct Facts {
	std::vector<Property> xattrs; /* each name once */
	std::string_view target;      /* of a link, or where in the store the content is */
	std::string_view content;     /* in the image */
	const char *digest = nullptr; /* fs-verity, raw, in what overlayfs wants; or none */
	uint64_t size = 0;
	int64_t mtime = 0;
	uint32_t mtime_nsec = 0;
	uint32_t nlink = 1;
	uint32_t uid = 0;
	uint32_t gid = 0;
	uint32_t rdev = 0;
	uint32_t depth = 0;
	Node *parent = nullptr;
	uint16_t mode = 0;

	/* The writer's */
	bool compact = false;
	bool has_whiteouts = false;
	uint32_t slot = 0;
	uint32_t tail = 0;
	uint32_t blocks = 0;
	uint32_t xattr_size = 0;
};

struct Node : Facts {
	std::unique_ptr<Names> names; /* of a directory, else none */

	bool is(uint16_t type) const; /* S_IFDIR, ... */
	bool is_whiteout() const;
	bool in_store() const; /* it has content, and that is in no image */
	Property *find(std::string_view name);
	/* Puts the xattrs in order. Which rule is broken by what mkcomposefs or the reader of images
	 * does not take; null: none. */
	const char *fault();
	/* Where its raw digest goes, of one of the sizes above. */
	char *add_digest(Arena &arena, size_t size);
	/* What overlayfs wants. */
	std::string_view metacopy() const;
	void set(std::string_view name, std::string_view value);
};

/* The first node is the root. */
struct Tree {
	std::deque<Node> nodes;
	Arena arena;
	std::vector<Arena> more; /* of those who helped to make it */

	/* Null: the directory has the name. The root has no parent. */
	Node *add(Node *parent, std::string_view name, uint16_t mode);
	Node *add(Node *parent, std::string_view name, Node &&node);

	/* Not of a tree that a writer has changed. The copy's text lies in this tree, which has to
	 * outlive it. */
	Tree copy();
};

} // namespace cfs

#endif
