/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "naming.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>

namespace cfs
{

namespace
{

/* For less than these no thread is started. */
constexpr size_t OF_THREAD = 256;

int link(int from, const std::string &path, int directory, const std::string &name, int flags)
{
	return linkat(from, path.c_str(), directory, name.c_str(), flags) != 0 ? errno : 0;
}

int give_name(int directory, const Unnamed &one)
{
	const NewFile &file = one.file;

	if (!file.name().empty())
		return link(directory, file.name(), directory, one.name, 0);
	/* Root may, and from Linux 6.10 who has opened the file. The others get ENOENT. */
	int error = link(file.fd(), "", directory, one.name, AT_EMPTY_PATH);

	if (error != ENOENT)
		return error;
	return link(AT_FDCWD, "/proc/self/fd/" + std::to_string(file.fd()), directory, one.name,
		    AT_SYMLINK_FOLLOW);
}

} // namespace

void give_names(int directory, std::vector<Unnamed> &files, unsigned threads,
		const Progress &progress)
{
	std::atomic<size_t> next = 0;
	std::atomic<bool> failed = false;
	Pool pool;
	auto work = [&] {
		for (size_t i; (i = next++) < files.size() && !pool.stop;) {
			int error = failed ? ECANCELED : give_name(directory, files[i]);

			files[i].error = error;
			files[i].file = {};
			if (error && error != EEXIST)
				failed = true;
		}
	};

	if (files.size() < OF_THREAD)
		work();
	else
		pool.run(threads, progress, work);
}

} // namespace cfs
