/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Images, written: of the same tree the same bytes as by mkcomposefs 1.0.8, or by composefs-rs in
 * its first format, so that their digests are the same.
 */
#ifndef CFS_HOST_WRITER_H
#define CFS_HOST_WRITER_H

#include "tree.h"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace cfs
{

constexpr unsigned VERSION_LIMIT = 1; /* of the format that mkcomposefs numbers */
/* The format that composefs-rs had before that one, and numbers as 2. Kernels read both. Inodes and
 * xattrs stand in another order here, and whiteouts stay whiteouts. */
constexpr unsigned RUST_VERSION = 2;

/* The version of an image is the lowest one that fits. */
struct Versions {
	unsigned least;
	unsigned most;

	/* From 0 to VERSION_LIMIT, or RUST_VERSION alone. */
	bool known() const;
};

class Writer {
    public:
	/* Changes the tree into what overlayfs is to find. Unfit: the image would be larger than
	 * 1 GiB, or the format has no place for something. */
	Writer(Tree &tree, Versions versions);

	uint64_t size() const
	{
		return size_;
	}
	/* To that many bytes. */
	void write(char *out) const;

    private:
	void escape(Node &node);
	void add_whiteouts();
	void order();
	void order_deep();
	void share();
	bool stands_before(const Property &a, const Property &b) const;
	void lay_out();
	void lay_out_content(Node &node) const;
	void lay_out_tail(Node &node, uint64_t &pos, uint64_t head) const;
	void write_head(char *out) const;
	uint64_t write_inode(const Node &node, uint32_t number, uint64_t data, char *image) const;
	char *write_xattrs(const Node &node, char *out) const;

	Tree &tree_;
	unsigned version_;
	bool rust_;
	std::vector<Node *> nodes_; /* as they stand in the image */
	std::vector<const Property *> shared_;
	uint64_t shared_size_ = 0;
	uint64_t inodes_end_ = 0;
	uint64_t shared_block_ = 0; /* from which on shared xattrs are counted */
	uint64_t data_start_ = 0;
	uint64_t size_ = 0;
	int64_t mtime_ = 0;
	uint32_t mtime_nsec_ = 0;
	bool has_acl_ = false;
};

} // namespace cfs

#endif
