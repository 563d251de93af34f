/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "pool.h"

#include <algorithm>
#include <chrono>

namespace cfs
{

namespace
{

constexpr std::chrono::milliseconds BETWEEN{ 100 };

} // namespace

void Pool::one(const std::function<void()> &work) noexcept
{
	std::exception_ptr failure;

	try {
		work();
	} catch (...) {
		failure = std::current_exception();
	}
	std::lock_guard<std::mutex> lock(mutex_);

	if (failure) {
		/* What comes later may be of being stopped. */
		if (!failure_)
			failure_ = failure;
		stop = true;
	}
	running_--;
	changed_.notify_all();
	woken_.notify_all();
}

void Pool::watch(const Progress &progress)
{
	std::unique_lock<std::mutex> lock(mutex_);

	for (;;) {
		changed_.wait_for(lock, BETWEEN, [this] { return running_ == 0 || hurried_; });
		if (running_ == 0)
			return;
		hurried_ = false;
		lock.unlock();
		bool on = progress(files, bytes);
		lock.lock();
		if (!on) {
			stop = true;
			woken_.notify_all();
		}
	}
}

void Pool::meet()
{
	std::unique_lock<std::mutex> lock(mutex_);

	met_++;
	woken_.notify_all();
	/* Who failed has ended, and does not come any more. */
	woken_.wait(lock, [this] { return stop || met_ >= running_; });
}

bool Pool::wait(const std::function<bool()> &ready)
{
	std::unique_lock<std::mutex> lock(mutex_);

	woken_.wait(lock, [this, &ready] { return stop || ready(); });
	return !stop;
}

void Pool::wake(const std::function<void()> &change)
{
	std::lock_guard<std::mutex> lock(mutex_);

	change();
	woken_.notify_all();
}

/* False: there can be no more, and those that are there do it all. The caller's own thread cannot
 * help: they may wait for what it does while it watches. */
bool Pool::start(std::vector<std::thread> &pool, const std::function<void()> &work)
{
	wake([this] { running_++; });
	try {
		pool.emplace_back([this, &work] { one(work); });
	} catch (const std::exception &failed) {
		/* Those that have started may wait for this one. */
		wake([this] { running_--; });
		if (!pool.empty())
			return false;
		if (auto error = dynamic_cast<const std::system_error *>(&failed))
			throw NoThread(error->code());
		throw;
	}
	return true;
}

void Pool::run(unsigned threads, const Progress &progress, const std::function<void()> &work)
{
	/* They end before it does, whatever comes. */
	struct Threads {
		~Threads()
		{
			join();
		}
		void join()
		{
			for (std::thread &thread : all)
				thread.join();
			all.clear();
		}
		std::vector<std::thread> all;
	} pool;
	size_t wanted = std::max(threads, 1U);

	pool.all.reserve(wanted);
	while (pool.all.size() < wanted && start(pool.all, work))
		;
	try {
		watch(progress);
	} catch (...) {
		wake([this] { stop = true; });
		throw;
	}
	pool.join();
	if (failure_)
		std::rethrow_exception(failure_);
}

} // namespace cfs
