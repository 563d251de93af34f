/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "copies.h"

#include <utility>

namespace cfs
{

namespace
{

/* Of all that waits. Who takes that brings it to the disk while the next ones are made. Where the
 * disk is slower than that, they become more meanwhile. With little at the end, nobody waits for
 * long. */
constexpr uint64_t ENOUGH = uint64_t{ 16 } << 20;

} // namespace

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
	if (!digests_.insert(copy.digest).second)
		return;
	bytes_ += copy.size;
	waiting_.push_back(std::move(copy));
	if (bytes_ >= ENOUGH && !full_) {
		full_ = true;
		pool_.hurry();
	}
}

void Copies::hand_over(bool all)
{
	std::vector<Stored> copies;

	pool_.wake([&] {
		if (target_ && (full_ || all)) {
			copies.swap(waiting_);
			bytes_ = 0;
		}
		full_ = false;
	});
	if (!copies.empty())
		target_->take(copies);
}

} // namespace cfs
