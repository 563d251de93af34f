/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "blob.h"

#include <openssl/evp.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace cfs
{

namespace
{

constexpr size_t SHA256_SIZE = 32, SHA512_SIZE = 64;
constexpr size_t PIECE = size_t{ 1 } << 18;
constexpr int BETWEEN = 100; /* milliseconds */

[[noreturn]] void fail(int error)
{
	throw std::system_error(error, std::generic_category());
}

} // namespace

void BlobReader::Free::operator()(evp_md_ctx_st *context) const
{
	EVP_MD_CTX_free(context);
}

BlobReader::BlobReader(const Blob &blob, const std::atomic<bool> &stop)
	: blob_(blob), stop_(stop), start_(blob.start)
{
	if (blob.digest.empty())
		return;
	if (blob.digest.size() != SHA256_SIZE && blob.digest.size() != SHA512_SIZE)
		throw std::invalid_argument("a digest of an unknown size");
	hash_.reset(EVP_MD_CTX_new());
	if (!hash_ ||
	    !EVP_DigestInit_ex(hash_.get(),
			       blob.digest.size() == SHA256_SIZE ? EVP_sha256() : EVP_sha512(),
			       nullptr))
		throw std::bad_alloc();
}

size_t BlobReader::take(char *out, size_t room)
{
	bool is_part = blob_.offset >= 0;
	ssize_t got;

	if (!start_.empty()) {
		size_t size = start_.copy(out, room);

		start_.remove_prefix(size);
		return size;
	}
	if (is_part) {
		room = std::min<uint64_t>(room, blob_.size - done_);
		if (room == 0)
			return 0;
	}
	for (;;) {
		struct pollfd ready = { blob_.fd, POLLIN, 0 };

		/* Who fills a pipe may never do that, or for ever. */
		if (stop_)
			fail(ECANCELED);
		if (!is_part && poll(&ready, 1, BETWEEN) == 0)
			continue;
		got = is_part ? pread(blob_.fd, out, room,
				      blob_.offset + static_cast<off_t>(done_)) :
				::read(blob_.fd, out, room);
		if (got >= 0)
			break;
		if (errno != EINTR)
			fail(errno);
	}
	if (got == 0 && is_part)
		fail(ENODATA);
	return static_cast<size_t>(got);
}

size_t BlobReader::read(char *out, size_t room)
{
	size_t size = take(out, room);

	done_ += size;
	if (hash_ && !EVP_DigestUpdate(hash_.get(), out, size))
		throw std::bad_alloc();
	return size;
}

std::string BlobReader::other_digest()
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	std::vector<char> rest(PIECE);
	unsigned size = 0;

	if (!hash_)
		return {};
	while (!stop_ && read(rest.data(), rest.size()))
		;
	if (stop_)
		return {};
	if (!EVP_DigestFinal_ex(hash_.get(), digest, &size))
		throw std::bad_alloc();
	std::string found(reinterpret_cast<char *>(digest), size);

	return found == blob_.digest ? std::string() : found;
}

} // namespace cfs
