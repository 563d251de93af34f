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

/* Digests of 32 or 64 bytes, sorted: no order of names makes it slow, and memory is what they are.
 */
class Live {
    public:
	/* The objects of an image. Malformed: it is broken; it may be added in part then. */
	void add(const Image &image);
	/* Digests of `size` bytes, one behind the other. False: they do not go up. */
	bool add(std::string_view raw, size_t size);
	bool contains(std::string_view raw) const;
	size_t count() const
	{
		return short_.size() + long_.size();
	}

    private:
	template <size_t size> using Digests = std::vector<std::array<uint8_t, size>>;

	template <size_t size> static void merge(Digests<size> &all, Digests<size> &some);

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
