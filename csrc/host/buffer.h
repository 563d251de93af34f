/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What files are read into. */
#ifndef CFS_HOST_BUFFER_H
#define CFS_HOST_BUFFER_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace cfs
{

/* What is read and hashed at a time: it stays in the cache in between. */
constexpr size_t PIECE = size_t{ 1 } << 18;
constexpr size_t PAGE = 4096;

/* On a page: the kernel copies to another place at half the speed. */
class Buffer {
    public:
	uint8_t *data() const
	{
		return bytes_.get();
	}
	static constexpr size_t size()
	{
		return PIECE;
	}

    private:
	static constexpr std::align_val_t ALIGNED{ PAGE };

	struct Free {
		void operator()(uint8_t *bytes) const
		{
			operator delete[](bytes, ALIGNED);
		}
	};
	std::unique_ptr<uint8_t[], Free> bytes_{ new (ALIGNED) uint8_t[PIECE] };
};

} // namespace cfs

#endif
