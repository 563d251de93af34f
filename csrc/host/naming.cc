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

int give_name(int directory, const Unnamed &file)
{
	std::string open = "/proc/self/fd/" + std::to_string(file.fd);
	bool has_none = file.temporary.empty();
	int from = has_none ? AT_FDCWD : directory;
	const std::string &path = has_none ? open : file.temporary;

	return linkat(from, path.c_str(), directory, file.name.c_str(),
		      has_none ? AT_SYMLINK_FOLLOW : 0) != 0 ?
		       errno :
		       0;
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
