/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Tar files: POSIX ustar and pax, and what GNU tar has otherwise.
 *
 * The bytes may be anybody's. Nothing recurses, and memory is bounded: what stands before a file's
 * own header has 1 MiB at most. What another program reads otherwise is refused.
 */
#ifndef CFS_HOST_TAR_H
#define CFS_HOST_TAR_H

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace cfs
{

/* The rule that it breaks. */
class BrokenTar : public std::exception {
    public:
	explicit BrokenTar(const char *rule) noexcept : rule_(rule)
	{
	}
	const char *what() const noexcept override
	{
		return rule_;
	}

    private:
	const char *rule_;
};

struct TarEntry {
	std::string path; /* as it stands there */
	std::string link;
	std::map<std::string, std::string> xattrs;
	uint64_t size = 0; /* of a regular file */
	int64_t mtime = 0;
	uint32_t mtime_nsec = 0;
	uint32_t uid = 0;
	uint32_t gid = 0;
	uint32_t rdev = 0;
	uint16_t mode = 0; /* with S_IFREG, ... */
	bool hard_link = false;
};

/* The next bytes, as many as there are; none: that was all. They stay until it is called again. */
using Bytes = std::function<std::string_view()>;
/* Goes so far beyond what it has given. */
using Skip = std::function<void(uint64_t)>;

class TarReader {
    public:
	/* With `skip`, content that nobody asks for is not read, and neither is what comes behind
	 * the end. */
	explicit TarReader(Bytes bytes, Skip skip = {})
		: bytes_(std::move(bytes)), skip_(std::move(skip))
	{
	}

	/* False: the end, behind which all was read too. What is left of the last one's content is
	 * skipped. BrokenTar. */
	bool next(TarEntry &entry);
	/* Of its content the next bytes, `most` at most; none: that was all. BrokenTar. */
	std::string_view content(size_t most);
	/* Where the last header begins. */
	uint64_t header() const
	{
		return header_;
	}

    private:
	using Records = std::map<std::string, std::string, std::less<>>;
	struct Before;

	std::string_view some(uint64_t most);
	bool read_block();
	void finish_content();
	void end();
	std::string read_extra(uint64_t size);
	void read_global(uint64_t size);
	void describe(TarEntry &entry, const Before &before);

	Bytes bytes_;
	Skip skip_;
	std::string_view rest_;
	uint64_t offset_ = 0;
	uint64_t header_ = 0;
	uint64_t left_ = 0; /* of the content */
	uint64_t padding_ = 0;
	Records global_;
	char block_[512];
};

} // namespace cfs

#endif
