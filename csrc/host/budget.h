/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Memory for what others have written, about. */
#ifndef CFS_HOST_BUDGET_H
#define CFS_HOST_BUDGET_H

#include <atomic>
#include <cstdint>

namespace cfs
{

class Budget {
    public:
	explicit Budget(uint64_t size) : left_(size)
	{
	}
	/* By any thread. False: there is not so much left. */
	bool take(uint64_t size)
	{
		uint64_t left = left_;

		while (size <= left) {
			if (left_.compare_exchange_weak(left, left - size))
				return true;
		}
		return false;
	}

    private:
	std::atomic<uint64_t> left_;
};

} // namespace cfs

#endif
