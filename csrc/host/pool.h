/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Threads that do one thing together, with the caller's one watching. */
#ifndef CFS_HOST_POOL_H
#define CFS_HOST_POOL_H

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include <unistd.h>

namespace cfs
{

/* How many files and bytes are done; asked for a tenth of a second at most after the last time.
 * False: stop. */
using Progress = std::function<bool(uint64_t files, uint64_t bytes)>;

/* There can be no thread at all. */
class NoThread : public std::system_error {
    public:
	explicit NoThread(std::error_code code) : std::system_error(code)
	{
	}
	static constexpr char TEXT[] = "no thread can be started";
};

class Pool {
    public:
	/* `work` by each of `threads` threads, or of as many as there can be. What one throws, or
	 * `progress`, stops all and comes out here. NoThread. */
	void run(unsigned threads, const Progress &progress, const std::function<void()> &work);

	/* Of each thread, once at most: until all of them are here. */
	void meet();
	/* Waits until `ready`, which is asked again after each wake(). False: all shall stop. */
	bool wait(const std::function<bool()> &ready);
	/* `change` what others wait for. */
	void wake(const std::function<void()> &change);
	/* Inside of both: `progress` is to be asked now. */
	void hurry()
	{
		hurried_ = true;
		changed_.notify_all();
	}

	std::atomic<bool> stop = false;
	std::atomic<uint64_t> files = 0;
	std::atomic<uint64_t> bytes = 0;

    private:
	bool start(std::vector<std::thread> &pool, const std::function<void()> &work);
	void one(const std::function<void()> &work) noexcept;
	void watch(const Progress &progress);

	std::mutex mutex_;
	std::condition_variable changed_;
	std::condition_variable woken_;
	size_t running_ = 0; /* all that have been started and have not ended */
	size_t met_ = 0;     /* of those, who came to meet() */
	std::exception_ptr failure_;
	bool hurried_ = false;
};

/* Closes it in the end. */
class Descriptor {
    public:
	explicit Descriptor(int fd) : fd_(fd)
	{
	}
	~Descriptor()
	{
		if (fd_ >= 0)
			close(fd_);
	}
	Descriptor(const Descriptor &) = delete;
	Descriptor &operator=(const Descriptor &) = delete;
	int get() const
	{
		return fd_;
	}
	int take()
	{
		int fd = fd_;

		fd_ = -1;
		return fd;
	}

    private:
	int fd_;
};

} // namespace cfs

#endif
