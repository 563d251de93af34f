/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "live.h"

#include "names.h"
#include "report.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

namespace cfs
{

namespace
{

constexpr uint64_t SUPERBLOCK = 1024;
constexpr uint64_t BLOCK = 4096;
constexpr size_t AHEAD = 8; /* lookups at a time, about what a processor has on their way */
constexpr std::array<uint8_t, 4> MAGIC = { 0xe2, 0xe1, 0xf5, 0xe0 };

/* The digits of "ab/cd..." as the kernel walks it, to which "." and doubled slashes are nothing.
 * Empty: no path of an object. */
void digits_of(std::string_view path, std::string &out)
{
	size_t parts = 0;

	out.clear();
	while (!path.empty()) {
		size_t end = std::min(path.find('/'), path.size());
		std::string_view part = path.substr(0, end);

		path.remove_prefix(std::min(end + 1, path.size()));
		if (part.empty() || part == ".")
			continue;
		if (++parts == 1 ? part.size() != 2 : parts != 2) {
			out.clear();
			return;
		}
		out += part;
	}
}

std::string_view view(const uint8_t *bytes, size_t size)
{
	return { reinterpret_cast<const char *>(bytes), size };
}

/* A file that could be one, and begins as one. A file that cannot be read counts as none. */
bool is_image(int directory, const char *name, uint64_t size)
{
	std::array<uint8_t, 4> magic{};
	bool same;
	int fd;

	if (size < BLOCK || size % BLOCK)
		return false;
	fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return false;
	same = pread(fd, magic.data(), magic.size(), SUPERBLOCK) == ssize_t{ 4 } && magic == MAGIC;
	close(fd);
	return same;
}

/* The order of operator<, which compares byte by byte, and takes longer than reading the image. */
struct Before {
	template <size_t size>
	bool operator()(const std::array<uint8_t, size> &left,
			const std::array<uint8_t, size> &right) const
	{
		return memcmp(left.data(), right.data(), size) < 0;
	}
};

} // namespace

template <size_t size> bool Digests<size>::contains(const Digest &digest) const
{
	size_t here = bucket(digest);
	auto first = all_.begin() + static_cast<ptrdiff_t>(starts_[here]);
	auto last = all_.begin() + static_cast<ptrdiff_t>(starts_[here + 1]);

	return std::binary_search(first, last, digest, Before{});
}

template <size_t size> void Digests<size>::merge(std::vector<Digest> &some)
{
	std::vector<Digest> both;
	size_t here = 0, kept = 0;

	/* Most images share nearly all. No lookup has to wait for memory: it was asked for before.
	 */
	for (size_t i = 0; i < some.size(); i++) {
		if (i + 2 * AHEAD < some.size())
			__builtin_prefetch(&starts_[bucket(some[i + 2 * AHEAD])]);
		if (i + AHEAD < some.size())
			__builtin_prefetch(all_.data() + starts_[bucket(some[i + AHEAD])]);
		if (!contains(some[i]))
			some[kept++] = some[i];
	}
	some.resize(kept);
	if (some.empty())
		return;
	std::sort(some.begin(), some.end(), Before{});
	some.erase(std::unique(some.begin(), some.end(),
			       [](const Digest &left, const Digest &right) {
				       return memcmp(left.data(), right.data(), size) == 0;
			       }),
		   some.end());
	both.reserve(all_.size() + some.size());
	std::set_union(all_.begin(), all_.end(), some.begin(), some.end(), std::back_inserter(both),
		       Before{});
	all_.swap(both);
	for (size_t i = 0; i < all_.size(); i++) {
		for (size_t wanted = bucket(all_[i]); here <= wanted; here++)
			starts_[here] = i;
	}
	for (; here < starts_.size(); here++)
		starts_[here] = all_.size();
}

void Live::add(const Image &image)
{
	std::array<uint8_t, 64> digest{};
	std::vector<std::array<uint8_t, 32>> some_short;
	std::vector<std::array<uint8_t, 64>> some_long;
	std::string name;

	/* Each is decoded as it comes, while the processor has it at hand. */
	each_object(image, [&](std::string_view path) {
		digits_of(path, name);
		switch (digest_of(name, digest)) {
		case 32:
			std::copy_n(digest.begin(), 32, some_short.emplace_back().begin());
			break;
		case 64:
			some_long.push_back(digest);
			break;
		default: /* nothing that could be taken for an object */
			break;
		}
	});
	short_.merge(some_short);
	long_.merge(some_long);
}

bool Live::add(std::string_view raw, size_t size)
{
	std::vector<std::array<uint8_t, 32>> some_short;
	std::vector<std::array<uint8_t, 64>> some_long;

	if ((size != 32 && size != 64) || raw.size() % size)
		return false;
	for (size_t i = 0; i < raw.size(); i += size) {
		if (size == 32)
			memcpy(some_short.emplace_back().data(), raw.data() + i, size);
		else
			memcpy(some_long.emplace_back().data(), raw.data() + i, size);
	}
	short_.merge(some_short);
	long_.merge(some_long);
	return true;
}

bool Live::contains(std::string_view raw) const
{
	std::array<uint8_t, 32> small{};
	std::array<uint8_t, 64> large{};

	if (raw.size() == small.size()) {
		memcpy(small.data(), raw.data(), small.size());
		return short_.contains(small);
	}
	if (raw.size() == large.size()) {
		memcpy(large.data(), raw.data(), large.size());
		return long_.contains(large);
	}
	return false;
}

int scan(int directory, std::string_view prefix, const Live &live, Found &found)
{
	std::array<uint8_t, 64> digest{};

	return each_name(directory, [&](int own, const char *entry) {
		std::string_view name = entry;
		size_t size = digest_of(std::string(prefix).append(name), digest);
		struct stat status;

		if (size && live.contains(view(digest.data(), size))) {
			found.live++;
			return 0;
		}
		if (!size) {
			if (!name.starts_with('.'))
				found.strange.emplace_back(name);
			return 0;
		}
		if (fstatat(own, entry, &status, AT_SYMLINK_NOFOLLOW) != 0)
			return errno;
		if (!S_ISREG(status.st_mode)) {
			found.strange.emplace_back(name);
			return 0;
		}
		auto length = static_cast<uint64_t>(status.st_size);

		found.free.push_back({ std::string(name), length, is_image(own, entry, length) });
		return 0;
	});
}

} // namespace cfs
