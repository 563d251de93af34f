/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "verity.h"

#include "lanes.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

namespace cfs
{

namespace
{

constexpr size_t BLOCK = 4096;
constexpr uint8_t BLOCK_LOG = 12;
constexpr size_t HASH_MAX = 64;
constexpr size_t AT_ONCE = 64; /* hashes of blocks */
constexpr size_t DESCRIPTOR_SIZE = 256;
constexpr size_t SIZE_OFFSET = 8;
constexpr size_t ROOT_OFFSET = 16;

} // namespace

void Verity::Free::operator()(evp_md_st *md) const
{
	EVP_MD_free(md);
}

void Verity::Free::operator()(evp_md_ctx_st *context) const
{
	EVP_MD_CTX_free(context);
}

Verity::Verity(int algorithm) : algorithm_(algorithm), hash_size_(algorithm == SHA256 ? 32 : 64)
{
	if (algorithm != SHA256 && algorithm != SHA512)
		throw std::invalid_argument("an unknown algorithm of fs-verity");
	/* Fetched once: else each hash would look for it. */
	md_.reset(EVP_MD_fetch(nullptr, algorithm == SHA256 ? "SHA256" : "SHA512", nullptr));
	context_.reset(EVP_MD_CTX_new());
	if (!md_ || !context_)
		throw std::bad_alloc();
}

void Verity::hash(const uint8_t *data, size_t size, uint8_t *out)
{
	if (!EVP_DigestInit_ex(context_.get(), md_.get(), nullptr) ||
	    !EVP_DigestUpdate(context_.get(), data, size) ||
	    !EVP_DigestFinal_ex(context_.get(), out, nullptr))
		throw std::bad_alloc();
}

/* Filled up with zeros. */
void Verity::hash_block(const uint8_t *data, size_t size, uint8_t *out)
{
	if (size < BLOCK) {
		uint8_t whole[BLOCK] = {};

		memcpy(whole, data, size);
		hash(whole, BLOCK, out);
	} else {
		hash(data, BLOCK, out);
	}
}

void Verity::add_hash(const uint8_t *hash, size_t level)
{
	uint8_t above[HASH_MAX];

	for (;; level++) {
		if (level == levels_.size())
			levels_.push_back({ std::vector<uint8_t>(BLOCK), 0, 0 });
		Level &here = levels_[level];

		memcpy(here.block.data() + here.used, hash, hash_size_);
		here.used += hash_size_;
		here.total++;
		if (here.used < BLOCK)
			return;
		here.used = 0;
		hash_block(here.block.data(), BLOCK, above);
		hash = above;
	}
}

/* Of each block of some data, in turn. */
template <typename Take> void Verity::each_hash(const uint8_t *data, size_t size, const Take &take)
{
	uint8_t hashes[AT_ONCE * HASH_MAX];

	for (size_t offset = 0; offset < size;) {
		const uint8_t *at = data + offset;
		size_t whole = std::min(AT_ONCE, (size - offset) / BLOCK);
		size_t done = algorithm_ == SHA256 ? hash_in_lanes(at, BLOCK, whole, hashes) : 0;

		if (!done) {
			hash_block(at, std::min(BLOCK, size - offset), hashes);
			done = 1;
		}
		for (size_t i = 0; i < done; i++)
			take(hashes + i * hash_size_);
		offset += done * BLOCK;
	}
}

void Verity::add(const uint8_t *data, size_t size)
{
	size_ += size;
	each_hash(data, size, [this](const uint8_t *hash) { add_hash(hash, 0); });
}

void Verity::hash_blocks(const uint8_t *data, size_t size, std::vector<uint8_t> &out)
{
	each_hash(data, size, [this, &out](const uint8_t *hash) {
		out.insert(out.end(), hash, hash + hash_size_);
	});
}

void Verity::add_hashes(const std::vector<uint8_t> &hashes, uint64_t size)
{
	size_ += size;
	for (size_t offset = 0; offset < hashes.size(); offset += hash_size_)
		add_hash(hashes.data() + offset, 0);
}

std::string Verity::finish()
{
	uint8_t descriptor[DESCRIPTOR_SIZE] = { 1, static_cast<uint8_t>(algorithm_), BLOCK_LOG };
	uint8_t out[HASH_MAX] = {};

	for (size_t i = 0; i < sizeof(size_); i++)
		descriptor[SIZE_OFFSET + i] = static_cast<uint8_t>(size_ >> (8 * i));
	/* The root hash of an empty file is zeros. Of others it is the only hash of its level. */
	for (size_t level = 0; level < levels_.size(); level++) {
		Level &here = levels_[level];

		if (here.total == 1) {
			memcpy(descriptor + ROOT_OFFSET, here.block.data(), hash_size_);
			break;
		}
		if (here.used) {
			hash_block(here.block.data(), here.used, out);
			add_hash(out, level + 1);
		}
	}
	hash(descriptor, sizeof(descriptor), out);
	for (Level &level : levels_)
		level.used = level.total = 0;
	size_ = 0;
	return { reinterpret_cast<const char *>(out), hash_size_ };
}

} // namespace cfs
