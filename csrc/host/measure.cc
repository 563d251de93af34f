/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "measure.h"

#include "buffer.h"
#include "verity.h"

#include <fcntl.h>
#include <linux/fsverity.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <mutex>
#include <utility>

namespace cfs
{

namespace
{

/* A file of this size is read by all threads at once, a segment each. */
constexpr uint64_t LARGE = uint64_t{ 8 } << 20;
constexpr uint64_t SEGMENT = uint64_t{ 1 } << 20;
constexpr size_t KERNEL_MAX = 64;

/* Opens files, and keeps the directory of the last one: the objects of one lie together. */
class Opener {
    public:
	Opener(int directory, bool follow)
		: directory_(directory),
		  flags_(O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW))
	{
	}

	/* Fills `out` in where it is no regular file. */
	int open(const File &file, Measured &out, struct statx &status)
	{
		Descriptor fd(file.fd < 0 ? open_beside(file.name) :
					    fcntl(file.fd, F_DUPFD_CLOEXEC, 0));

		status = {};
		if (fd.get() < 0) {
			out.error = errno;
			/* what O_NOFOLLOW says of a link, and open of a socket */
			out.regular = out.error != ELOOP && out.error != ENXIO;
			return -1;
		}
		if (statx(fd.get(), "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE, &status) != 0) {
			out.error = errno;
			return -1;
		}
		out.regular = S_ISREG(status.stx_mode);
		return out.regular ? fd.take() : -1;
	}

    private:
	int open_beside(const std::string &name)
	{
		size_t slash = name.rfind('/');

		if (slash == std::string::npos || slash == 0)
			return openat(directory_, name.c_str(), flags_);
		if (!beside_ || name.compare(0, slash, place_) != 0) {
			place_ = name.substr(0, slash);
			beside_ = std::make_unique<Descriptor>(openat(
				directory_, place_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
			if (beside_->get() < 0) {
				beside_.reset();
				return -1;
			}
		}
		return openat(beside_->get(), name.c_str() + slash + 1, flags_);
	}

	int directory_;
	int flags_;
	std::string place_;
	std::unique_ptr<Descriptor> beside_;
};

/* One of each algorithm: what they hold is made once. */
class Verities {
    public:
	Verity &of(int algorithm)
	{
		return algorithm == SHA512 ? sha512_ : sha256_;
	}

    private:
	Verity sha256_{ SHA256 }, sha512_{ SHA512 };
};

/* All of a file, a piece at a time, to `take`, which returns an errno. Returns errno. */
template <typename Take>
int read_all(int fd, uint64_t size, Pool &pool, Buffer &buffer, const Take &take)
{
	uint64_t total = 0;
	size_t used = 0;

	if (size > buffer.size())
		posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	while (!pool.stop) {
		ssize_t got = pread(fd, buffer.data() + used, buffer.size() - used,
				    static_cast<off_t>(total));
		bool end;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno;
		used += static_cast<size_t>(got);
		total += static_cast<uint64_t>(got);
		pool.bytes += static_cast<uint64_t>(got);
		/* Some files of /proc have a size of 0. */
		end = got == 0 || (size && total == size);
		if (!end && used < buffer.size())
			continue;
		if (int error = take(buffer.data(), used, total - used))
			return error;
		used = 0;
		if (end)
			return 0;
	}
	return ECANCELED;
}

class Measuring {
    public:
	Measuring(int directory, const std::vector<File> &files, unsigned threads, bool follow)
		: found(files.size()), directory_(directory), files_(files), threads_(threads),
		  follow_(follow)
	{
	}

	/* Of each thread: a file after the other, then what is too large for one thread. */
	void work()
	{
		Opener opener(directory_, follow_);
		Verities verities;
		std::vector<uint8_t> hashes;
		Buffer buffer;
		size_t i;

		while (!pool.stop && (i = next_++) < files_.size())
			look(i, opener, verities, buffer);
		pool.meet();
		for (const std::unique_ptr<Large> &large : large_) {
			if (pool.stop)
				break;
			together(*large, opener, verities, buffer, hashes);
		}
	}

	Pool pool;
	std::vector<Measured> found;

    private:
	struct Large {
		explicit Large(size_t index) : index(index)
		{
		}

		size_t index;
		std::once_flag opened;
		/* Each thread that reads it has it too; here until all is read. */
		std::shared_ptr<Descriptor> fd; /* the pool's lock is on it */
		std::unique_ptr<Verity> verity;
		uint64_t size = 0;
		std::atomic<uint64_t> next = 0;
		uint64_t turn = 0; /* whose hashes are next; the pool's lock is on it and `error` */
		int error = 0;
	};

	void look(size_t index, Opener &opener, Verities &verities, Buffer &buffer)
	{
		Measured &out = found[index];
		struct statx status;
		Descriptor fd(opener.open(files_[index], out, status));
		Verity &verity = verities.of(files_[index].algorithm);

		if (fd.get() >= 0 && threads_ > 1 && status.stx_size >= LARGE) {
			std::lock_guard<std::mutex> lock(mutex_);

			large_.push_back(std::make_unique<Large>(index));
			return;
		}
		if (fd.get() >= 0) {
			seal_of(fd.get(), status, out);
			out.error = read_all(fd.get(), status.stx_size, pool, buffer,
					     [&verity](const uint8_t *data, size_t size, uint64_t) {
						     verity.add(data, size);
						     return 0;
					     });
			out.digest = verity.finish();
			if (out.error)
				out.digest.clear();
		}
		pool.files++;
	}

	static void seal_of(int fd, const struct statx &status, Measured &out)
	{
		out.sealed = status.stx_attributes & STATX_ATTR_VERITY;
		if (out.sealed)
			out.by_kernel = ask(fd);
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

	/* Segments are hashed in any order, and their hashes come into the tree in the right one:
	 * so nobody holds those of more than one. */
	void together(Large &large, Opener &opener, Verities &verities, Buffer &buffer,
		      std::vector<uint8_t> &hashes)
	{
		const File &file = files_[large.index];
		Measured &out = found[large.index];
		std::shared_ptr<Descriptor> fd;

		std::call_once(large.opened, [&] {
			struct statx status;
			auto opened =
				std::make_shared<Descriptor>(opener.open(file, out, status));

			large.verity = std::make_unique<Verity>(file.algorithm);
			if (opened->get() >= 0) {
				large.size = status.stx_size;
				seal_of(opened->get(), status, out);
				posix_fadvise(opened->get(), 0, 0, POSIX_FADV_SEQUENTIAL);
			}
			pool.wake([&] { large.fd = std::move(opened); });
		});
		pool.wake([&] { fd = large.fd; });
		for (;;) {
			uint64_t mine = large.next++, start = mine * SEGMENT, size;
			int error;

			if (!fd || start >= large.size)
				return;
			size = std::min(SEGMENT, large.size - start);
			hashes.clear();
			error = segment(fd->get(), start, size, verities.of(file.algorithm), buffer,
					hashes);
			if (!pool.wait([&] { return large.turn == mine || large.error; }))
				return;
			if (large.error)
				return;
			if (error) {
				pool.wake([&] {
					out.error = large.error = error;
					large.fd.reset();
				});
				return;
			}
			large.verity->add_hashes(hashes, size);
			if (start + size == large.size) {
				out.digest = large.verity->finish();
				pool.files++;
				/* There may be more of them than a process may have open. */
				pool.wake([&] { large.fd.reset(); });
			}
			pool.wake([&] { large.turn++; });
		}
	}

	int segment(int fd, uint64_t start, uint64_t size, Verity &verity,
		    Buffer &buffer, std::vector<uint8_t> &hashes)
	{
		uint64_t done = 0;
		size_t used = 0;

		while (done < size) {
			size_t wanted = std::min<uint64_t>(buffer.size() - used, size - done);
			ssize_t got = pread(fd, buffer.data() + used, wanted,
					    static_cast<off_t>(start + done));

			if (pool.stop)
				return ECANCELED;
			if (got < 0 && errno == EINTR)
				continue;
			if (got < 0)
				return errno;
			if (got == 0)
				return ENODATA; /* it was cut meanwhile */
			used += static_cast<size_t>(got);
			done += static_cast<uint64_t>(got);
			pool.bytes += static_cast<uint64_t>(got);
			if (used < buffer.size() && done < size)
				continue;
			verity.hash_blocks(buffer.data(), used, hashes);
			used = 0;
		}
		return 0;
	}

	int directory_;
	const std::vector<File> &files_;
	unsigned threads_;
	bool follow_;
	std::atomic<size_t> next_ = 0;
	std::mutex mutex_;
	std::vector<std::unique_ptr<Large>> large_; /* as it is once all threads have met */
};

class Copying {
    public:
	Copying(NewFiles &where, const std::vector<File> &files, bool follow)
		: found(files.size()), where_(where), files_(files), follow_(follow)
	{
	}

	void work()
	{
		Opener opener(AT_FDCWD, follow_);
		Verities verities;
		Buffer buffer;
		size_t i;

		while (!pool.stop && (i = next_++) < files_.size()) {
			copy_one(i, opener, verities.of(files_[i].algorithm), buffer);
			pool.files++;
			/* Nothing of all this gets a name if one cannot. */
			if (found[i].error || !found[i].regular)
				pool.stop = true;
		}
	}

	Pool pool;
	std::vector<Copied> found;

    private:
	void copy_one(size_t index, Opener &opener, Verity &verity, Buffer &buffer)
	{
		Copied &out = found[index];
		Measured source;
		struct statx status;
		Descriptor fd(opener.open(files_[index], source, status));

		out.error = source.error;
		out.regular = source.regular;
		if (fd.get() < 0)
			return;
		out.ours = true;
		out.error = where_.make(out.file);
		if (out.error)
			return;
		if (where_.share(fd.get(), out.file)) {
			/* What was taken, whatever the source becomes meanwhile. */
			out.error = read_all(out.file.fd(), status.stx_size, pool, buffer,
					     [&](const uint8_t *data, size_t size, uint64_t) {
						     verity.add(data, size);
						     out.size += size;
						     return 0;
					     });
		} else {
			out.ours = false;
			out.error = read_all(fd.get(), status.stx_size, pool, buffer,
					     [&](const uint8_t *data, size_t size, uint64_t at) {
						     verity.add(data, size);
						     out.size += size;
						     int error = out.file.put(data, size, at);

						     out.ours = error != 0;
						     return error;
					     });
		}
		out.digest = verity.finish();
		if (out.error)
			out.file = {};
	}

	NewFiles &where_;
	const std::vector<File> &files_;
	bool follow_;
	std::atomic<size_t> next_ = 0;
};

} // namespace

std::vector<Measured> measure(int directory, const std::vector<File> &files, unsigned threads,
			      bool follow, const Progress &progress)
{
	Measuring work(directory, files, threads, follow);

	work.pool.run(threads, progress, [&work] { work.work(); });
	return std::move(work.found);
}

std::vector<Copied> copy(NewFiles &where, const std::vector<File> &files, unsigned threads,
			 bool follow, const Progress &progress)
{
	Copying work(where, files, follow);

	work.pool.run(threads, progress, [&work] { work.work(); });
	return std::move(work.found);
}

} // namespace cfs
