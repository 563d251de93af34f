/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * fs-verity digests in user space, as the kernel measures them: blocks of 4096 bytes, no salt.
 * Format: Linux Documentation/filesystems/fsverity.rst. The hashes are libcrypto's, which uses what
 * the processor has for them, and of several blocks at once those of lanes.h.
 */
#ifndef CFS_HOST_VERITY_H
#define CFS_HOST_VERITY_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct evp_md_st;
struct evp_md_ctx_st;

namespace cfs
{

enum : int { SHA256 = 1, SHA512 = 2 }; /* <linux/fsverity.h> */

/* One digest after the other. Its memory does not depend on the size of what is hashed. */
class Verity {
    public:
	explicit Verity(int algorithm); /* std::invalid_argument: none that is known */

	/* Data in pieces, each but the last of whole blocks. */
	void add(const uint8_t *data, size_t size);
	/* Data that another one has hashed: its size, and the hash of each block. */
	void add_hashes(const std::vector<uint8_t> &hashes, uint64_t size);
	/* The hash of each block of data, behind what is in `out`. */
	void hash_blocks(const uint8_t *data, size_t size, std::vector<uint8_t> &out);
	/* The digest of all that was added. What is added next is another file's. */
	std::string finish();

    private:
	/* The hashes of one level of the tree, up to a block of them. */
	struct Level {
		std::vector<uint8_t> block;
		size_t used = 0;
		uint64_t total = 0;
	};
	struct Free {
		void operator()(evp_md_st *md) const;
		void operator()(evp_md_ctx_st *context) const;
	};

	void hash(const uint8_t *data, size_t size, uint8_t *out);
	void hash_block(const uint8_t *data, size_t size, uint8_t *out);
	template <typename Take>
	void each_hash(const uint8_t *data, size_t size, const Take &take);
	void add_hash(const uint8_t *hash, size_t level);

	int algorithm_;
	size_t hash_size_;
	uint64_t size_ = 0;
	std::vector<Level> levels_;
	std::unique_ptr<evp_md_st, Free> md_;
	std::unique_ptr<evp_md_ctx_st, Free> context_;
};

} // namespace cfs

#endif
