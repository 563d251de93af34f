/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What a tree that was read is changed to before an image is made of it. */
#ifndef CFS_HOST_ADJUST_H
#define CFS_HOST_ADJUST_H

#include "tree.h"
#include "verity.h"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace cfs
{

/* Of a path, which begins with a slash, and a mode; empty: it has none. */
using Label = std::function<std::string(const std::string &path, uint16_t mode)>;

struct Adjustment {
	/* As composefs-rs has a tree that is to boot: see bootable() below. */
	bool bootable = false;
	bool by_root = false; /* all belongs to root */
	bool clamped = false;
	int64_t latest = 0; /* no time is later, with `clamped` */
	/* glob(7), of paths that begin with a slash. What is in such a directory is left out too. */
	std::vector<std::string> excluded;
	Label label; /* for security.selinux; may be none */
	int algorithm = SHA256; /* of the digests by which contents are known */

	bool excludes(const std::string &path) const;
};

/* Names of one file in the directory that the tree was read of. */
struct Linked {
	uint64_t device;
	uint64_t inode;
	std::string path;
	Node *parent;
	std::string_view name;
};

/* What is to be done when all is read. Unfit: it cannot be. */
void adjust(Tree &tree, std::vector<Linked> &linked, const Adjustment &how);

} // namespace cfs

#endif
