/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "newfile.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

namespace cfs
{

NewFile::~NewFile()
{
	if (fd_ >= 0)
		close(fd_);
	if (!name_.empty())
		unlinkat(target_, name_.c_str(), 0);
}

int NewFile::put(const uint8_t *data, size_t size, uint64_t at) const
{
	while (size) {
		ssize_t put = pwrite(fd_, data, size, static_cast<off_t>(at));

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return errno;
		data += put;
		size -= static_cast<size_t>(put);
		at += static_cast<uint64_t>(put);
	}
	return 0;
}

int NewFiles::make(NewFile &out)
{
	NewFile made;

	made.target_ = target_;
	if (!named_) {
		made.fd_ = openat(target_, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
		if (made.fd_ < 0 && errno != EOPNOTSUPP && errno != EISDIR)
			return errno;
		if (made.fd_ < 0)
			named_ = true;
	}
	if (made.fd_ < 0) {
		std::string name = "." + prefix_ + "." + std::to_string(next_++) + ".tmp";

		made.fd_ = openat(target_, name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC,
				  0644);
		if (made.fd_ < 0)
			return errno;
		made.name_ = std::move(name);
	}
	out = std::move(made);
	return 0;
}

bool NewFiles::share(int source, const NewFile &copy)
{
	if (!sharing_)
		return false;
	if (ioctl(copy.fd(), FICLONE, source) == 0)
		return true;
	if (errno == EOPNOTSUPP || errno == ENOTTY)
		sharing_ = false;
	return false;
}

} // namespace cfs
