/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * composefs-dump(5), read: report.h writes it.
 *
 * The text may be anybody's. Nothing recurses, and time and memory are bounded by its size. What
 * breaks a rule throws Unfit, with the line.
 *
 * mkcomposefs takes more: numbers that overflow, half a digest, paths with //, a NUL that ends a
 * name, an xattr twice, a payload out of the store, links that lead to each other. Of what it makes
 * of its own test files, the same is made here: a line of size 0 may lack content and digest.
 */
#ifndef CFS_HOST_DUMP_H
#define CFS_HOST_DUMP_H

#include "tree.h"

#include <string_view>

namespace cfs
{

/* The tree has views into the text. */
Tree read_dump(std::string_view text);

} // namespace cfs

#endif
