/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "tar.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

namespace cfs
{

namespace
{

constexpr size_t BLOCK_SIZE = 512;
/* Of names and records before a header; Go's archive/tar has the same. */
constexpr uint64_t EXTRA_LIMIT = uint64_t{ 1 } << 20;
constexpr uint64_t SIZE_LIMIT = uint64_t{ 1 } << 53; /* 8 PiB: what images have */
constexpr uint32_t MAJOR_LIMIT = 1U << 12, MINOR_LIMIT = 1U << 20; /* Linux: dev_t */
constexpr size_t XATTR_NAME_LIMIT = 255;
constexpr size_t XATTR_VALUE_LIMIT = 32767;
constexpr std::string_view XATTR = "SCHILY.xattr.", SPARSE = "GNU.sparse.";

[[noreturn]] void fail(const char *rule)
{
	throw BrokenTar(rule);
}

/* Up to a NUL. */
std::string_view text(std::string_view field)
{
	return field.substr(0, std::min(field.size(), field.find('\0')));
}

/* Octal digits; or, by GNU, 0x80 or 0xff and a big-endian number, of two's complement. */
int64_t number(std::string_view field)
{
	auto first = static_cast<uint8_t>(field.front());
	int64_t value = first == 0xff ? -1 : 0;
	size_t i = 0;

	if (first == 0x80 || first == 0xff) {
		for (char c : field.substr(1)) {
			if (value > INT64_MAX >> 8 || value < INT64_MIN >> 8)
				fail("a number that is too large");
			value = value * 256 + static_cast<uint8_t>(c);
		}
		return value;
	}
	while (i < field.size() && field[i] == ' ')
		i++;
	for (; i < field.size() && field[i] >= '0' && field[i] <= '7'; i++)
		value = value * 8 + (field[i] - '0'); /* of 12 digits at most */
	for (; i < field.size(); i++) {
		if (field[i] != ' ' && field[i] != '\0')
			fail("a field that is no number");
	}
	return value;
}

/* Decimal digits, and nothing else. */
uint64_t decimal(std::string_view field)
{
	uint64_t value = 0;

	if (field.empty() || field.size() > 18)
		fail("a record that is no number, or too large");
	for (char c : field) {
		if (c < '0' || c > '9')
			fail("a record that is no number, or too large");
		value = value * 10 + static_cast<uint64_t>(c - '0');
	}
	return value;
}

uint32_t id(int64_t value)
{
	if (value < 0 || value > UINT32_MAX)
		fail("an owner that no file has");
	return static_cast<uint32_t>(value);
}

uint64_t size_of(int64_t value)
{
	if (value < 0 || static_cast<uint64_t>(value) > SIZE_LIMIT)
		fail("a size that no file has");
	return static_cast<uint64_t>(value);
}

/* Seconds with a fraction, of which the time is never later. */
void set_time(std::string_view field, TarEntry &entry)
{
	bool negative = field.starts_with('-');
	size_t point = std::min(field.size(), field.find('.'));
	std::string_view whole = field.substr(negative, point - negative), rest = field.substr(point);
	uint32_t nsec = 0;
	bool more = false;

	entry.mtime = static_cast<int64_t>(decimal(whole));
	for (size_t i = 1; i < std::max<size_t>(rest.size(), 10); i++) {
		char c = i < rest.size() ? rest[i] : '0';

		if (c < '0' || c > '9')
			fail("a record that is no number, or too large");
		if (i < 10)
			nsec = nsec * 10 + static_cast<uint32_t>(c - '0');
		else
			more = more || c != '0';
	}
	if (negative) {
		nsec += more;
		entry.mtime = -entry.mtime - (nsec ? 1 : 0);
		nsec = nsec ? 1000000000 - nsec : 0;
	}
	entry.mtime_nsec = nsec;
}

/* Those of POSIX pax: "LENGTH KEY=VALUE\n", the length of all that. */
template <typename Take> void each_record(std::string_view all, const Take &take)
{
	while (!all.empty()) {
		size_t space = all.find(' '), equal = all.find('=');
		uint64_t length;

		if (space == all.npos || equal == all.npos || equal <= space + 1)
			fail("a record without a key");
		length = decimal(all.substr(0, space));
		if (length > all.size() || length < equal + 2 || all[length - 1] != '\n')
			fail("a record of another length than it says");
		take(all.substr(space + 1, equal - space - 1),
		     all.substr(equal + 1, length - equal - 2));
		all.remove_prefix(length);
	}
}

void add_xattr(std::string_view name, std::string_view value, TarEntry &entry)
{
	if (name.empty() || name.size() > XATTR_NAME_LIMIT || name.find('\0') != name.npos)
		fail("an xattr whose name is empty, over 255 bytes, or has a NUL");
	if (value.size() > XATTR_VALUE_LIMIT)
		fail("more xattrs than a file can have");
	entry.xattrs[std::string(name)] = value;
}

uint16_t format_of(char type)
{
	switch (type) {
	case '\0':
	case '0':
	case '7': /* in one piece, for systems that know that */
		return S_IFREG;
	case '2':
		return S_IFLNK;
	case '3':
		return S_IFCHR;
	case '4':
		return S_IFBLK;
	case '5':
		return S_IFDIR;
	case '6':
		return S_IFIFO;
	case 'S':
		fail("a sparse file in the form of GNU tar");
	default:
		fail("an entry of a kind that layers do not have");
	}
}

} // namespace

/* What stands before a header, of the file that it is of. */
struct TarReader::Before {
	std::optional<std::string> path, link;
	std::optional<Records> records;

	bool any() const
	{
		return path || link || records;
	}
};

std::string_view TarReader::some(uint64_t most)
{
	std::string_view taken;

	if (rest_.empty())
		rest_ = bytes_();
	taken = rest_.substr(0, most);
	rest_.remove_prefix(taken.size());
	offset_ += taken.size();
	return taken;
}

/* False: there is nothing more. */
bool TarReader::read_block()
{
	size_t used = 0;

	while (used < BLOCK_SIZE) {
		std::string_view got = some(BLOCK_SIZE - used);

		if (got.empty() && used == 0)
			return false;
		if (got.empty())
			fail("it ends in the middle of a header");
		memcpy(block_ + used, got.data(), got.size());
		used += got.size();
	}
	return true;
}

std::string_view TarReader::content(size_t most)
{
	std::string_view got;

	if (left_ == 0)
		return {};
	got = some(std::min<uint64_t>(left_, most));
	if (got.empty())
		fail("it ends in the middle of a file");
	left_ -= got.size();
	return got;
}

void TarReader::finish_content()
{
	if (skip_ && left_ > rest_.size()) {
		skip_(left_ - rest_.size());
		offset_ += std::exchange(left_, 0);
		rest_ = {};
	}
	while (!content(SIZE_MAX).empty())
		;
	left_ = std::exchange(padding_, 0);
	while (!content(SIZE_MAX).empty())
		;
}

/* After a block of zeros. Whatever comes after the second one is no file of it; but who compressed
 * it has its sum there. */
void TarReader::end()
{
	if (read_block() && std::any_of(block_, block_ + BLOCK_SIZE, [](char c) { return c; }))
		fail("a single block of zeros, which is no end");
	while (!skip_ && !some(UINT64_MAX).empty())
		;
}

std::string TarReader::read_extra(uint64_t size)
{
	std::string all;

	if (size > EXTRA_LIMIT)
		fail("names or records of more than 1 MiB");
	left_ = size;
	padding_ = -size % BLOCK_SIZE;
	for (std::string_view got; !(got = content(SIZE_MAX)).empty();)
		all += got;
	finish_content();
	return all;
}

/* For all files from here on. */
void TarReader::read_global(uint64_t size)
{
	std::string all = read_extra(size);

	each_record(all, [this](std::string_view key, std::string_view value) {
		if (key == "path" || key == "linkpath" || key == "size" || key.starts_with(XATTR))
			fail("a name, a size or an xattr for all files");
		/* Of others, a commit's name for example, nothing is kept. */
		if (key.starts_with(SPARSE))
			fail("a sparse file in the form of GNU tar");
		if (key == "mtime" || key == "uid" || key == "gid")
			global_[std::string(key)] = value;
	});
}

bool TarReader::next(TarEntry &entry)
{
	Before before;

	entry = {};
	finish_content();
	for (;;) {
		std::string_view block(block_, BLOCK_SIZE);
		int64_t sum = 0;

		header_ = offset_;
		if (!read_block())
			fail("it ends without an end");
		if (std::all_of(block.begin(), block.end(), [](char c) { return c == 0; })) {
			if (before.any())
				fail("a name or records of no file");
			end();
			return false;
		}
		for (size_t i = 0; i < BLOCK_SIZE; i++)
			sum += i >= 148 && i < 156 ? ' ' : static_cast<uint8_t>(block[i]);
		if (number(block.substr(148, 8)) != sum)
			fail("no header of tar: its sum is another one");
		uint64_t size = size_of(number(block.substr(124, 12)));

		switch (block[156]) {
		case 'x':
			if (before.records)
				fail("two names or two lots of records for one file");
			before.records.emplace();
			each_record(read_extra(size),
				    [&before](std::string_view key, std::string_view value) {
					    (*before.records)[std::string(key)] = value;
				    });
			break;
		case 'g':
			read_global(size);
			break;
		case 'L':
		case 'K': {
			auto &name = block[156] == 'L' ? before.path : before.link;

			if (name)
				fail("two names or two lots of records for one file");
			name = text(read_extra(size));
			break;
		}
		default:
			describe(entry, before);
			return true;
		}
	}
}

void TarReader::describe(TarEntry &entry, const Before &before)
{
	std::string_view block(block_, BLOCK_SIZE), prefix;
	char type = block[156];
	bool ustar = block.substr(257, 6) == std::string_view("ustar\0", 6);
	uint64_t size = size_of(number(block.substr(124, 12)));

	entry.path = before.path.value_or(std::string(text(block.substr(0, 100))));
	entry.link = before.link.value_or(std::string(text(block.substr(157, 100))));
	if (ustar && !before.path && !(prefix = text(block.substr(345, 155))).empty())
		entry.path = std::string(prefix) + '/' + entry.path;
	entry.mtime = number(block.substr(136, 12));
	entry.uid = id(number(block.substr(108, 8)));
	entry.gid = id(number(block.substr(116, 8)));

	auto take = [&](const std::string &key, std::string_view value) {
		if (key.starts_with(XATTR)) /* it may be empty */
			add_xattr(std::string_view(key).substr(XATTR.size()), value, entry);
		else if (key.starts_with(SPARSE))
			fail("a sparse file in the form of GNU tar");
		else if (key.starts_with("SCHILY.acl."))
			fail("an ACL as a text, and not as an xattr");
		else if (value.empty())
			return; /* as if it were not there */
		else if (key == "path" || key == "linkpath") {
			if ((key == "path" ? before.path : before.link))
				fail("two names or two lots of records for one file");
			(key == "path" ? entry.path : entry.link) = value;
		} else if (key == "mtime")
			set_time(value, entry);
		else if (key == "uid")
			entry.uid = id(static_cast<int64_t>(decimal(value)));
		else if (key == "gid")
			entry.gid = id(static_cast<int64_t>(decimal(value)));
		else if (key == "size")
			size = size_of(static_cast<int64_t>(decimal(value)));
	};

	for (const auto &[key, value] : global_)
		take(key, value);
	for (const auto &[key, value] : before.records.value_or(Records()))
		take(key, value);
	if (entry.path.find('\0') != entry.path.npos || entry.link.find('\0') != entry.link.npos)
		fail("a name with a NUL");
	/* Before there was a type for directories. */
	if (entry.path.ends_with('/') && (type == '\0' || type == '0')) {
		if (type == '0')
			fail("a file whose name is that of a directory");
		type = '5';
	}
	entry.hard_link = type == '1';
	entry.mode = static_cast<uint16_t>(
		(entry.hard_link ? S_IFREG : format_of(type)) |
		(type == '2' ? 0777 : number(block.substr(100, 8)) & 07777));
	if (S_ISCHR(entry.mode) || S_ISBLK(entry.mode)) {
		int64_t major = number(block.substr(329, 8)), minor = number(block.substr(337, 8));

		if (major < 0 || major >= MAJOR_LIMIT || minor < 0 || minor >= MINOR_LIMIT)
			fail("a device that Linux does not have");
		entry.rdev = static_cast<uint32_t>(makedev(static_cast<unsigned>(major),
							   static_cast<unsigned>(minor)));
	}
	if (size && (entry.hard_link || !S_ISREG(entry.mode)))
		fail("a size of what has no content");
	entry.size = left_ = size;
	padding_ = -size % BLOCK_SIZE;
}

} // namespace cfs
