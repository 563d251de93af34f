/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "archive.h"

#include <sys/stat.h>

#include <utility>

namespace cfs
{

namespace
{

constexpr uint64_t HEADER = 512;
constexpr size_t PATH_LIMIT = 4096;

} // namespace

std::vector<Member> list_members(Bytes bytes, Skip skip, size_t limit)
{
	TarReader reader(std::move(bytes), std::move(skip));
	std::vector<Member> members;
	TarEntry entry;

	while (reader.next(entry)) {
		if (members.size() == limit)
			throw BrokenTar("more members than an archive of blobs has");
		if (entry.path.size() > PATH_LIMIT)
			throw BrokenTar("a longer name than a member of an archive of blobs has");
		members.push_back({ std::move(entry.path), reader.header() + HEADER, entry.size,
				    S_ISREG(entry.mode) && !entry.hard_link });
	}
	return members;
}

} // namespace cfs
