/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Files that have no name yet: a kill leaves nothing of them. */
#ifndef CFS_HOST_NEWFILE_H
#define CFS_HOST_NEWFILE_H

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace cfs
{

/* It goes when nobody has taken it. */
class NewFile {
    public:
	NewFile() = default;
	/* One of a directory, from before: open, or -1, and a temporary name, or none. */
	NewFile(int directory, int fd, std::string name)
		: target_(directory), fd_(fd), name_(std::move(name))
	{
	}
	NewFile(NewFile &&other) noexcept
		: target_(other.target_), fd_(std::exchange(other.fd_, -1)),
		  name_(std::exchange(other.name_, {}))
	{
	}
	NewFile &operator=(NewFile &&other) noexcept
	{
		std::swap(target_, other.target_);
		std::swap(fd_, other.fd_);
		std::swap(name_, other.name_);
		return *this;
	}
	~NewFile();

	int fd() const /* open for reading and writing */
	{
		return fd_;
	}
	/* The caller's from now on, and so is the name. */
	int take()
	{
		name_.clear();
		return std::exchange(fd_, -1);
	}
	/* Only where the file system has no files without one. */
	const std::string &name() const
	{
		return name_;
	}
	/* Returns errno. */
	int put(const uint8_t *data, size_t size, uint64_t at) const;

    private:
	friend class NewFiles;

	int target_ = -1;
	int fd_ = -1;
	std::string name_;
};

class NewFiles {
    public:
	/* In the file system of `target`. Where that has no O_TMPFILE (EOPNOTSUPP, EISDIR), or with
	 * `named`, they lie in `target`, as `.PREFIX.NUMBER.tmp`. */
	NewFiles(int target, bool named, std::string prefix)
		: target_(target), named_(named), prefix_(std::move(prefix))
	{
	}

	/* By any thread. Returns errno. */
	int make(NewFile &out);
	/* Has it the blocks of the source now? */
	bool share(int source, const NewFile &copy);

    private:
	int target_;
	std::atomic<bool> named_;
	std::string prefix_;
	std::atomic<size_t> next_ = 0;
	std::atomic<bool> sharing_ = true;
};

} // namespace cfs

#endif
