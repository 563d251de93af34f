/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "report.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <tuple>
#include <utility>

namespace cfs
{

namespace
{

constexpr size_t PIECE = size_t{ 1 } << 18;
constexpr uint16_t WHITEOUT_MODE = S_IFCHR;

constexpr unsigned KEEP_SPACE = 1;
constexpr unsigned ESCAPE_EQUAL = 2;
constexpr unsigned ESCAPE_LONE_DASH = 4;

void hexadecimal(std::string &out, std::string_view bytes, std::string_view before = {})
{
	static constexpr char digits[] = "0123456789abcdef";

	for (char byte : bytes) {
		out += before;
		out += digits[static_cast<uint8_t>(byte) >> 4];
		out += digits[static_cast<uint8_t>(byte) & 15];
	}
}

void escape(std::string &out, std::string_view text, unsigned how)
{
	if ((how & ESCAPE_LONE_DASH) && text == "-") {
		out += "\\x2d";
		return;
	}
	for (size_t i = 0; i < text.size(); i++) {
		char c = text[i];

		if (c == '\\')
			out += "\\\\";
		else if (c == '\n')
			out += "\\n";
		else if (c == '\r')
			out += "\\r";
		else if (c == '\t')
			out += "\\t";
		else if (c < (how & KEEP_SPACE ? ' ' : '!') || c > '~' ||
			 (c == '=' && (how & ESCAPE_EQUAL)))
			hexadecimal(out, text.substr(i, 1), "\\x");
		else
			out += c;
	}
}

template <typename T> void number(std::string &out, T value, int base = 10)
{
	char digits[24];
	auto [end, error] = std::to_chars(digits, digits + sizeof(digits), value, base);

	(void)error; /* 64 bits have 22 digits at most, octal */
	out.append(digits, end);
}

bool has_content(const Inode &inode)
{
	return inode.is_regular() && inode.size && inode.layout != Layout::chunks;
}

/* An empty file with one of both marks has been given it by somebody else. */
bool is_whiteout(const Attributes &about)
{
	return about.whiteout && about.by_user;
}

/* What a line does not say by itself: which name stands for an inode, and what hides others. */
class Homes {
    public:
	explicit Homes(const Image &image) : walk_(image, &hidden_)
	{
		Attributes about;
		std::vector<Name> names;
		std::vector<uint64_t> numbers;
		size_t next = 0;
		bool links = false;

		while (walk_.next()) {
			const Inode &inode = walk_.inode();

			if (inode.is_regular() && !inode.size && inode.xattr_size) {
				image.attributes(inode, false, about);
				if (is_whiteout(about))
					hiding_.push_back(walk_.directory());
			}
			names.push_back({ walk_.directory(), inode.nid, walk_.name(), true });
			if (walk_.again())
				links = true;
			else
				numbers.push_back(walk_.inode().nid);
		}
		std::sort(hiding_.begin(), hiding_.end());
		if (!links)
			return;
		for (const Walk::Hidden &one : hidden_) {
			names.push_back({ one.directory, one.inode, one.before, false });
			numbers.push_back(one.inode);
		}
		/* As images are made: inodes in the order of their names, breadth first. */
		std::stable_sort(names.begin() + 1, names.end(), [](const Name &a, const Name &b) {
			return std::tie(a.directory, a.index, a.visible) <
			       std::tie(b.directory, b.index, b.visible);
		});
		std::sort(numbers.begin(), numbers.end());
		for (const Name &name : names) {
			if (next < numbers.size() && name.inode == numbers[next]) {
				homes_.push_back({ name.inode, name.index });
				next++;
			}
		}
		if (next < numbers.size()) /* somebody else's, in another order */
			homes_.clear();
	}

	/* Is the name that the other walk is at another one of its inode? */
	bool again(const Walk &walk) const
	{
		const Home *home = find(walk);

		return home ? home->name != walk.name() : walk.again();
	}
	std::string path(const Walk &walk) const
	{
		const Home *home = find(walk);

		return home ? walk_.path_of(home->name) : walk.first_path();
	}

	/* Are there whiteouts in it? */
	bool hides(const Inode &directory) const
	{
		return std::binary_search(hiding_.begin(), hiding_.end(), directory.nid);
	}

    private:
	struct Name {
		uint64_t directory;
		uint64_t inode;
		uint32_t index;
		bool visible; /* else it stands before the name of that index */
	};
	struct Home {
		uint64_t inode;
		uint32_t name;
	};

	const Home *find(const Walk &walk) const
	{
		auto found = std::lower_bound(
			homes_.begin(), homes_.end(), walk.inode().nid,
			[](const Home &home, uint64_t inode) { return home.inode < inode; });

		return found == homes_.end() ? nullptr : &*found;
	}

	std::vector<Walk::Hidden> hidden_;
	Walk walk_;
	std::vector<Home> homes_;      /* of all inodes, in order; or none */
	std::vector<uint64_t> hiding_; /* directories */
};

/* An xattr that the writer gives again. */
bool is_given(const Xattr &xattr, const Inode &inode, const Attributes &about, const Homes &homes)
{
	if (!xattr.mark)
		return false;
	return inode.is_directory() ? xattr.name.ends_with('s') && homes.hides(inode) :
				      !xattr.name.ends_with('s') && is_whiteout(about);
}

void dump_line(const Image &image, const Walk &walk, const Homes &homes, Attributes &about,
	       std::string &out)
{
	const Inode &inode = walk.inode();
	bool again = homes.again(walk);

	image.attributes(inode, true, about);
	escape(out, walk.path().empty() ? "/" : walk.path(), 0);
	out += ' ';
	number(out, inode.size);
	out += ' ';
	if (again)
		out += '@';
	number(out, is_whiteout(about) ? (inode.mode & ~S_IFMT) | WHITEOUT_MODE : inode.mode, 8);
	for (uint32_t value : { inode.nlink, inode.uid, inode.gid, inode.rdev }) {
		out += ' ';
		number(out, value);
	}
	out += ' ';
	number(out, inode.mtime);
	out += '.';
	number(out, inode.mtime_nsec);
	out += ' ';
	if (again)
		escape(out, homes.path(walk), ESCAPE_LONE_DASH);
	else if (inode.is_link())
		escape(out, image.content(inode), ESCAPE_LONE_DASH);
	else if (!about.payload.empty())
		escape(out, about.payload, ESCAPE_LONE_DASH);
	else
		out += '-';
	out += ' ';
	if (has_content(inode))
		escape(out, image.content(inode), ESCAPE_LONE_DASH);
	else
		out += '-';
	out += ' ';
	if (about.digest.empty())
		out += '-';
	else
		hexadecimal(out, about.digest);
	for (const Xattr &xattr : about.others) {
		if (is_given(xattr, inode, about, homes))
			continue;
		out += ' ';
		escape(out, xattr.name, ESCAPE_EQUAL);
		out += '=';
		escape(out, xattr.value, ESCAPE_EQUAL);
	}
	out += '\n';
}

void list_line(const Image &image, const Walk &walk, Attributes &about, std::string &out)
{
	const Inode &inode = walk.inode();

	image.attributes(inode, false, about);
	escape(out, walk.path(), KEEP_SPACE);
	if (inode.is_directory()) {
		out += "/\t";
	} else if (inode.is_link()) {
		out += "\t-> ";
		escape(out, image.content(inode), 0);
	} else if (!about.payload.empty() && !about.whiteout) {
		out += "\t@ ";
		escape(out, about.payload, 0);
	}
	out += '\n';
}

/* The first eight bytes as a number in the same order: objects differ there already. */
uint64_t key_of(std::string_view text)
{
	unsigned char start[8] = {};
	uint64_t key = 0;

	memcpy(start, text.data(), std::min<size_t>(text.size(), sizeof(start)));
	for (unsigned char byte : start)
		key = key << 8 | byte;
	return key;
}

} // namespace

void dump(const Image &image, const Sink &sink)
{
	Homes homes(image);
	Walk walk(image);
	Attributes about;
	std::string out;

	while (walk.next()) {
		dump_line(image, walk, homes, about, out);
		if (out.size() >= PIECE) {
			sink(out);
			out.clear();
		}
	}
	sink(out);
}

bool list(const Image &image, std::string_view path, const Sink &sink)
{
	Walk walk(image);
	Attributes about;
	std::string out;
	bool found = path.empty();

	while (walk.next()) {
		std::string_view here = walk.path();

		if (here.empty() || !here.starts_with(path) ||
		    (here.size() > path.size() && here[path.size()] != '/'))
			continue;
		found = true;
		list_line(image, walk, about, out);
		if (out.size() >= PIECE) {
			sink(out);
			out.clear();
		}
	}
	sink(out);
	return found;
}

void files(const Image &image, std::string_view directory, const FileSink &sink)
{
	Walk walk(image);
	Attributes about;

	while (walk.next()) {
		std::string_view here = walk.path();
		size_t above = here.rfind('/');

		if (walk.inode().is_directory()) {
			if (!directory.starts_with(here) ||
			    (directory.size() > here.size() && directory[here.size()] != '/'))
				walk.pass_over();
		} else if (walk.inode().is_regular() && here.substr(0, above) == directory) {
			bool inside;

			image.attributes(walk.inode(), false, about);
			inside = about.payload.empty() && has_content(walk.inode());
			if (!about.whiteout)
				sink(here.substr(above + 1),
				     inside ? image.content(walk.inode()) : "", about.payload);
		}
	}
}

void each_object(const Image &image, const Sink &sink)
{
	Walk walk(image);
	Attributes about;

	while (walk.next()) {
		if (walk.again() || !walk.inode().is_regular())
			continue;
		image.attributes(walk.inode(), false, about);
		if (!about.payload.empty() && !about.whiteout)
			sink(about.payload);
	}
}

std::vector<std::string_view> objects(const Image &image)
{
	std::vector<std::pair<uint64_t, std::string_view>> keyed;
	std::vector<std::string_view> found;

	each_object(image, [&keyed](std::string_view payload) {
		keyed.emplace_back(key_of(payload), payload);
	});
	std::sort(keyed.begin(), keyed.end());
	found.reserve(keyed.size());
	for (const auto &[key, payload] : keyed) {
		if (found.empty() || found.back() != payload)
			found.push_back(payload);
	}
	return found;
}

} // namespace cfs
