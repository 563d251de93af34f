/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What is where in a tar file whose members are read by their place: an OCI archive. */
#ifndef CFS_HOST_ARCHIVE_H
#define CFS_HOST_ARCHIVE_H

#include "tar.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cfs
{

struct Member {
	std::string path;    /* as it stands there */
	uint64_t offset = 0; /* of its content */
	uint64_t size = 0;
	bool is_file = false; /* a regular one, and no link to another */
};

/* An image has a hundred layers, and an archive some images. */
constexpr size_t MEMBERS_LIMIT = 10000;

/* All of them, in their order. BrokenTar: more than `limit`, or a name of over 4 KiB, too. */
std::vector<Member> list_members(Bytes bytes, Skip skip, size_t limit = MEMBERS_LIMIT);

} // namespace cfs

#endif
