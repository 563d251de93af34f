/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Which objects are needed, and what a directory of a store has beside them. */
#ifndef CFS_HOST_LIVE_H
#define CFS_HOST_LIVE_H

#include "erofs.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cfs
{

/* Digests in order: no choice of names makes it slow, and memory is what they are. */
template <size_t size> class Digests {
    public:
	using Digest = std::array<uint8_t, size>;

	bool contains(const Digest &digest) const;
	/* Changes what it is given. */
	void merge(std::vector<Digest> &some);
	size_t count() const
	{
		return all_.size();
	}

    private:
	static size_t bucket(const Digest &digest)
	{
		return static_cast<size_t>(digest[0]) << 8 | digest[1];
	}

	std::vector<Digest> all_;
	/* Where those with these first 16 bits begin; one more, for the end of the last. Digests
	 * are spread evenly: it leaves a step or two, where a search of all would take 17. */
	std::vector<size_t> starts_ = std::vector<size_t>((size_t{ 1 } << 16) + 1);
};

class Live {
    public:
	/* The objects of an image. Malformed: it is broken, and nothing of it was added. */
	void add(const Image &image);
	/* Digests of `size` bytes, one behind the other. False: they do not go up. */
	bool add(std::string_view raw, size_t size);
	bool contains(std::string_view raw) const;
	size_t count() const
	{
		return short_.count() + long_.count();
	}

    private:
	Digests<32> short_;
	Digests<64> long_;
};

struct Object {
	std::string name;
	uint64_t size;
	bool image; /* it begins as EROFS does */
};

struct Found {
	std::vector<Object> free; /* regular files named by a digest that is not live */
	std::vector<std::string> strange; /* neither object nor hidden */
	uint64_t live = 0;
};

/* The directory objects/<prefix>. 0 or an errno. */
int scan(int directory, std::string_view prefix, const Live &live, Found &found);

} // namespace cfs

#endif
