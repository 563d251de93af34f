/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "copies.h"

#include <utility>

namespace cfs
{

bool Copies::have_room(size_t more)
{
	if (!target_ || waiting_.size() + more <= target_->limit)
		return true;
	full_ = !waiting_.empty();
	if (full_)
		pool_.hurry();
	return false;
}

void Copies::put(Stored &&copy)
{
	if (digests_.insert(copy.digest).second)
		waiting_.push_back(std::move(copy));
}

void Copies::hand_over(bool all)
{
	std::vector<Stored> copies;

	pool_.wake([&] {
		if (target_ && (full_ || all))
			copies.swap(waiting_);
		full_ = false;
	});
	if (!copies.empty())
		target_->take(copies);
}

} // namespace cfs
