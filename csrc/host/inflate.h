/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A file that gzip or zstd may have compressed, read in pieces. */
#ifndef CFS_HOST_INFLATE_H
#define CFS_HOST_INFLATE_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace cfs
{

class Decoder;

/* By its first bytes. Memory is bounded, whatever the file says: 128 MiB, of zstd. */
class Inflate {
    public:
	explicit Inflate(int fd); /* which stays the caller's */
	~Inflate();

	/* The next bytes, which stay until it is called again; none: that was all.
	 * std::system_error: it cannot be read. BrokenTar: what is compressed is broken. */
	std::string_view next();

    private:
	void read();

	int fd_;
	std::vector<char> in_, out_;
	std::string_view rest_; /* of what was read */
	std::unique_ptr<Decoder> decoder_;
	bool known_ = false; /* whether it is compressed */
};

} // namespace cfs

#endif
