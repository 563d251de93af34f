/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "measure.h"
#include "verity.h"

#include <fcntl.h>
#include <linux/fsverity.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace cfs
{

namespace
{

constexpr size_t PIECE = size_t{ 1 } << 18; /* stays in the cache between reading and hashing */
constexpr std::chrono::milliseconds BETWEEN{ 100 };
constexpr size_t KERNEL_MAX = 64;

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

    private:
	int fd_;
};

class Work {
    public:
	Work(int directory, const std::vector<File> &files, bool follow)
		: found(files.size()), directory_(directory), files_(files),
		  flags_(O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW))
	{
	}

	/* Of each thread: a file after the other, as long as there is one. */
	void run() noexcept
	{
		try {
			std::vector<uint8_t> buffer(PIECE);
			Verity sha256(SHA256), sha512(SHA512);
			size_t i;

			while (!stop && (i = next_++) < files_.size()) {
				Verity &verity = files_[i].algorithm == SHA512 ? sha512 : sha256;

				look(files_[i], found[i], verity, buffer);
				done_files++;
			}
		} catch (...) {
			std::lock_guard<std::mutex> lock(mutex_);

			failure_ = std::current_exception();
			stop = true;
		}
		std::lock_guard<std::mutex> lock(mutex_);

		running_--;
		changed_.notify_all();
	}

	/* Until no thread is left. */
	void watch(const Progress &progress)
	{
		std::unique_lock<std::mutex> lock(mutex_);

		while (!changed_.wait_for(lock, BETWEEN, [this] { return running_ == 0; })) {
			lock.unlock();
			if (!progress(done_files, done_bytes))
				stop = true;
			lock.lock();
		}
	}

	void expect(size_t threads)
	{
		std::lock_guard<std::mutex> lock(mutex_);

		running_ += threads;
	}

	void check() const
	{
		if (failure_)
			std::rethrow_exception(failure_);
	}

	std::vector<Measured> found;
	std::atomic<bool> stop = false;
	std::atomic<uint64_t> done_files = 0;
	std::atomic<uint64_t> done_bytes = 0;

    private:
	void look(const File &file, Measured &out, Verity &verity, std::vector<uint8_t> &buffer)
	{
		Descriptor fd(openat(directory_, file.name.c_str(), flags_));
		struct statx status = {};

		if (fd.get() < 0) {
			out.error = errno;
			/* what O_NOFOLLOW says of a link, and open of a socket */
			out.regular = out.error != ELOOP && out.error != ENXIO;
			return;
		}
		if (statx(fd.get(), "", AT_EMPTY_PATH, STATX_TYPE, &status) != 0) {
			out.error = errno;
			return;
		}
		if (!S_ISREG(status.stx_mode)) {
			out.regular = false;
			return;
		}
		out.sealed = status.stx_attributes & STATX_ATTR_VERITY;
		if (out.sealed)
			out.by_kernel = ask(fd.get());
		out.error = hash(fd.get(), verity, buffer);
		out.digest = verity.finish();
		if (out.error)
			out.digest.clear();
	}

	static std::string ask(int fd)
	{
		union {
			struct fsverity_digest head;
			uint8_t room[sizeof(struct fsverity_digest) + KERNEL_MAX];
		} answer = {};
		const uint8_t *bytes = answer.room + sizeof(answer.head);

		answer.head.digest_size = KERNEL_MAX;
		if (ioctl(fd, FS_IOC_MEASURE_VERITY, &answer) != 0)
			return {};
		return { reinterpret_cast<const char *>(bytes),
			 std::min<size_t>(answer.head.digest_size, KERNEL_MAX) };
	}

	/* Returns errno. */
	int hash(int fd, Verity &verity, std::vector<uint8_t> &buffer)
	{
		size_t used = 0;

		posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
		while (!stop) {
			ssize_t got = read(fd, buffer.data() + used, buffer.size() - used);

			if (got < 0 && errno == EINTR)
				continue;
			if (got < 0)
				return errno;
			used += static_cast<size_t>(got);
			done_bytes += static_cast<uint64_t>(got);
			if (got && used < buffer.size())
				continue;
			verity.add(buffer.data(), used);
			used = 0;
			if (got == 0)
				return 0;
		}
		return ECANCELED;
	}

	int directory_;
	const std::vector<File> &files_;
	int flags_;
	std::atomic<size_t> next_ = 0;
	std::mutex mutex_;
	std::condition_variable changed_;
	size_t running_ = 0;
	std::exception_ptr failure_;
};

} // namespace

std::vector<Measured> measure(int directory, const std::vector<File> &files, unsigned threads,
			      bool follow, const Progress &progress)
{
	Work work(directory, files, follow);
	std::vector<std::thread> pool;
	size_t wanted = std::clamp<size_t>(threads, 1, std::max<size_t>(files.size(), 1));

	pool.reserve(wanted);
	while (pool.size() < wanted) {
		work.expect(1);
		try {
			pool.emplace_back([&work] { work.run(); });
		} catch (const std::system_error &) {
			/* No more threads: this one does what those that are there leave. */
			work.run();
			break;
		}
	}
	try {
		work.watch(progress);
	} catch (...) {
		work.stop = true;
		for (std::thread &thread : pool)
			thread.join();
		throw;
	}
	for (std::thread &thread : pool)
		thread.join();
	work.check();
	return std::move(work.found);
}

} // namespace cfs
