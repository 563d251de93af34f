/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A blob that gzip or zstd may have compressed, read in pieces. */
#ifndef CFS_HOST_INFLATE_H
#define CFS_HOST_INFLATE_H

#include "blob.h"

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cfs
{

class Decoder;

/* By its first bytes. Memory is bounded, whatever the file says: 128 MiB, of zstd. */
class Inflate {
    public:
	Inflate(const Blob &blob, const std::atomic<bool> &stop);
	~Inflate();

	/* The next bytes; 0: that was all. std::system_error: it cannot be read. BrokenTar: what is
	 * compressed is broken. */
	size_t read(char *out, size_t room);
	/* As BlobReader has it, of what is compressed. */
	std::string other_digest()
	{
		return blob_.other_digest();
	}

    private:
	void fill();

	BlobReader blob_;
	std::vector<char> in_;
	std::string_view rest_; /* of what was read */
	std::unique_ptr<Decoder> decoder_;
	bool known_ = false; /* whether it is compressed */
};

} // namespace cfs

#endif
