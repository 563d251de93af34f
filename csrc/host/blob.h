/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A file, or a part of one, whose size and digest may be known before it is read. */
#ifndef CFS_HOST_BLOB_H
#define CFS_HOST_BLOB_H

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace cfs
{

struct Blob {
	int fd;		       /* the caller's */
	std::string start;     /* what of it has been read already */
	int64_t offset = -1;   /* where it begins; else it goes on where it stands, to its end */
	uint64_t size = 0;     /* then */
	std::string digest{}; /* raw, of SHA-256 or SHA-512, of all its bytes; empty: not known */
};

class BlobReader {
    public:
	/* Where `stop` is set, nothing is waited for any more. std::invalid_argument: the digest is
	 * of neither. */
	BlobReader(const Blob &blob, const std::atomic<bool> &stop);

	/* The next bytes; 0: that was all. std::system_error: it cannot be read, or it ends early
	 * (ENODATA). */
	size_t read(char *out, size_t room);
	/* Reads what is left. Its digest, raw, where another one was known; else nothing. */
	std::string other_digest();

    private:
	struct Free {
		void operator()(evp_md_ctx_st *context) const;
	};

	size_t take(char *out, size_t room);

	const Blob &blob_;
	const std::atomic<bool> &stop_;
	std::string_view start_;
	uint64_t done_ = 0;
	std::unique_ptr<evp_md_ctx_st, Free> hash_; /* none: nobody asks for it */
};

} // namespace cfs

#endif
