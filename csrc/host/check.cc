/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "check.h"

#include "names.h"
#include "verity.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

namespace cfs
{

namespace
{

constexpr std::string_view OSTREE = ".file";
constexpr std::string_view IMAGES = "images/";

/* What is in one directory of objects. */
struct Directory {
	std::string name; /* two digits */
	std::vector<std::pair<std::string, std::string>> objects; /* names, digits */
	std::vector<std::string> strange;
	int error = 0;
};

int list(const Where &where, Directory &out)
{
	std::string path = where.objects + out.name;
	Descriptor fd(openat(where.store, path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	std::array<uint8_t, 64> digest{};

	if (fd.get() < 0)
		return errno;
	int error = each_name(fd.get(), [&](int, const char *entry) {
		std::string_view name = entry, rest = name;

		/* Of ostree: its directories and commits lie beside the files. */
		if (where.ostree && !rest.ends_with(OSTREE))
			return 0;
		if (where.ostree)
			rest.remove_suffix(OSTREE.size());
		std::string digits = out.name + std::string(rest);

		if (digest_of(digits, digest))
			out.objects.emplace_back(name, std::move(digits));
		else if (!where.ostree && !name.starts_with('.'))
			out.strange.emplace_back(name);
		return 0;
	});
	std::sort(out.objects.begin(), out.objects.end());
	return error;
}

} // namespace

/* Fills `files_`. Returns errno. */
int Checked::list(const Where &where, unsigned threads, const Progress &progress)
{
	std::string top = where.objects.empty() ? "." : where.objects;
	Descriptor fd(openat(where.store, top.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	std::vector<Directory> directories;
	std::atomic<size_t> next = 0;
	Pool pool;

	unreadable = where.objects;
	if (fd.get() < 0)
		return errno;
	/* The top may hold other things: the image beside its objects, a file system's own. */
	int failed = each_name(fd.get(), [&directories](int, const char *name) {
		if (is_fan_out(name))
			directories.push_back({ name, {}, {}, 0 });
		return 0;
	});
	if (failed)
		return failed;
	std::sort(directories.begin(), directories.end(),
		  [](const auto &left, const auto &right) { return left.name < right.name; });
	pool.run(threads, progress, [&] {
		size_t i;

		while (!pool.stop && (i = next++) < directories.size())
			directories[i].error = cfs::list(where, directories[i]);
	});
	before_ = where.objects.size();
	for (Directory &directory : directories) {
		std::string start = where.objects + directory.name;

		if (directory.error) {
			unreadable = start;
			return directory.error;
		}
		start += '/';
		for (const std::string &name : directory.strange)
			strange.push_back(start + name);
		for (auto &[name, digits] : directory.objects) {
			files_.push_back(
				{ start + name, digits.size() == 64 ? SHA256 : SHA512, -1 });
			digits_.push_back(std::move(digits));
		}
	}
	of_objects_ = files_.size();
	return 0;
}

void Checked::judge(const Where &where, std::vector<Measured> &found)
{
	std::array<uint8_t, 64> named{};

	objects = files_.size();
	read_.resize(files_.size());
	for (size_t i = 0; i < found.size(); i++) {
		Measured &one = found[i];
		size_t size = digest_of(digits_[i], named);
		bool right = where.ostree ||
			     (one.digest.size() == size &&
			      memcmp(one.digest.data(), named.data(), size) == 0);
		bool seal = one.sealed ? one.by_kernel == one.digest : !where.sealed;

		read_[i] = one.regular && !one.error;
		sealed += one.sealed;
		if (!read_[i] || !right || !seal)
			wrong.push_back({ files_[i].name, digits_[i], std::move(one) });
	}
}

void Checked::run(const Where &where, const std::vector<std::string> &images, unsigned threads,
		  const Progress &progress)
{
	std::vector<Measured> found;

	error = list(where, threads, progress);
	if (error)
		return;
	for (const std::string &name : images) {
		files_.push_back({ std::string(IMAGES) + name,
				   name.size() == 64 ? SHA256 : SHA512, -1 });
		digits_.push_back(name);
	}
	found = measure(where.store, files_, threads, false, progress);
	judge(where, found);
}

std::vector<std::string_view> Checked::others(const std::vector<std::string_view> &names) const
{
	std::vector<std::string_view> here, out;

	for (size_t i = 0; i < of_objects_; i++) {
		if (read_[i])
			here.push_back(std::string_view(files_[i].name).substr(before_));
	}
	std::set_difference(names.begin(), names.end(), here.begin(), here.end(),
			    std::back_inserter(out));
	return out;
}

} // namespace cfs
