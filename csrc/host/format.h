/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What images have in common, read or written.
 *
 * The format: Linux fs/erofs/erofs_fs.h. Which part of it composefs images use, and what overlayfs
 * takes from their xattrs: composefs (libcomposefs), composefs-rs, Linux fs/overlayfs.
 */
#ifndef CFS_HOST_FORMAT_H
#define CFS_HOST_FORMAT_H

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cfs
{

constexpr uint32_t COMPOSEFS_MAGIC = 0xd078629a;
constexpr uint32_t COMPOSEFS_VERSION = 1; /* of the header */
constexpr uint32_t EROFS_MAGIC = 0xe0f5e1e2;
constexpr uint64_t SUPERBLOCK = 1024;
constexpr uint64_t SUPERBLOCK_SIZE = 128;

constexpr unsigned BLOCK_BITS = 12;
constexpr uint64_t BLOCK = uint64_t{ 1 } << BLOCK_BITS;
constexpr uint64_t SLOT = 32;
constexpr uint64_t COMPACT_SIZE = 32;
constexpr uint64_t EXTENDED_SIZE = 64;
constexpr size_t ENTRY_SIZE = 12;
constexpr size_t NAME_LIMIT = 255;
constexpr uint64_t LINK_LIMIT = 4095; /* PATH_MAX, without its NUL */
/* The largest file that libcomposefs has in an image. */
constexpr uint64_t CONTENT_LIMIT = 5000;
/* Directories in each other: more than any path that a system call takes. */
constexpr size_t DEPTH_LIMIT = 2048;

constexpr uint64_t XATTR_HEADER = 12;
constexpr uint64_t XATTR_ENTRY = 4;

constexpr std::string_view PREFIXES[] = {
	"", "user.", "system.posix_acl_access", "system.posix_acl_default",
	"trusted.", "lustre.", "security.",
};
constexpr size_t PREFIX_COUNT = sizeof(PREFIXES) / sizeof(PREFIXES[0]);
constexpr uint8_t USER = 1;
constexpr uint8_t TRUSTED = 4;
constexpr uint8_t LUSTRE = 5;
constexpr std::string_view OVERLAY = "overlay.";

enum class Layout : uint8_t { plain = 0, inlined = 2, chunks = 4 };

constexpr uint64_t round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

/* `objects` prints a line for each: a newline would make two of one, the second a path to anywhere. */
bool has_control(std::string_view path);

/* Components that a lookup can follow downwards. */
bool is_relative(std::string_view path);

} // namespace cfs

#endif
