/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "dump.h"

#include "format.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <span>
#include <utility>
#include <vector>

namespace cfs
{

namespace
{

enum Field {
	PATH,
	SIZE,
	MODE,
	NLINK,
	UID,
	GID,
	RDEV,
	MTIME,
	PAYLOAD,
	CONTENT,
	DIGEST,
	FIELDS,
};

/* Of one file, as mkcomposefs takes it. */
constexpr size_t XATTR_TEXT_LIMIT = 65535;
/* The blocks that a file in the store has, of 8 TiB at most. */
constexpr uint64_t SIZE_LIMIT = uint64_t{ 1024 } << 43;

/* A hard link, until all names are there. */
struct Pending {
	Name *name;
	Name *to;
	std::string_view target;
	uint64_t line;
};

int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

class Reader {
    public:
	explicit Reader(std::string_view text) : text_(text)
	{
	}
	Tree read();

    private:
	[[noreturn]] void fail(const char *rule) const
	{
		throw Unfit(rule, line_);
	}
	static std::string_view cut(std::string_view &rest, char at);
	void read_line(std::string_view line);
	std::string_view unescape(std::string_view text);
	std::string_view without_nul(std::string_view text);
	std::string_view optional(std::string_view text);
	template <typename T> T number(std::string_view text, int base = 10);
	void times(std::string_view text, Node &node);
	void payload(std::string_view text, Node &node);
	void content(std::string_view text, Node &node);
	void digest(std::string_view text, Node &node);
	void xattrs(std::string_view text, Node &node);
	Name *look_up(std::string_view path);
	Node *parent_of(std::string_view path, std::string_view &name);
	void resolve();

	std::string_view text_;
	uint64_t line_ = 0;
	Tree tree_;
	std::vector<Pending> pending_;
	/* Of the line before. */
	std::string_view directory_;
	Node *parent_ = nullptr;
};

std::string_view Reader::cut(std::string_view &rest, char at)
{
	size_t end = std::min(rest.find(at), rest.size());
	std::string_view piece = rest.substr(0, end);

	rest.remove_prefix(std::min(end + 1, rest.size()));
	return piece;
}

std::string_view Reader::unescape(std::string_view text)
{
	size_t first = text.find('\\'), used = 0;
	char *out;

	if (first == std::string_view::npos)
		return text;
	out = tree_.arena.take(text.size());
	for (size_t i = 0; i < text.size(); i++) {
		char c = text[i];

		if (c == '\\') {
			if (++i == text.size())
				fail("a backslash with nothing behind it");
			c = text[i];
			if (c == 'n') {
				c = '\n';
			} else if (c == 'r') {
				c = '\r';
			} else if (c == 't') {
				c = '\t';
			} else if (c == 'x') {
				int high, low;

				if (text.size() - i < 3)
					fail("an escape without two hex digits");
				high = digit_of(text[i + 1]);
				low = digit_of(text[i + 2]);
				if (high < 0 || low < 0)
					fail("an escape without two hex digits");
				c = static_cast<char>(high << 4 | low);
				i += 2;
			} else if (c != '\\') {
				fail("an unknown escape");
			}
		}
		out[used++] = c;
	}
	return { out, used };
}

std::string_view Reader::without_nul(std::string_view text)
{
	std::string_view found = unescape(text);

	if (found.find('\0') != std::string_view::npos)
		fail("a NUL in a name or a path");
	return found;
}

/* Empty: there is none. */
std::string_view Reader::optional(std::string_view text)
{
	return text == "-" ? std::string_view() : unescape(text);
}

template <typename T> T Reader::number(std::string_view text, int base)
{
	const char *end = text.data() + text.size();
	T value = 0;
	auto [stop, error] = std::from_chars(text.data(), end, value, base);

	if (error == std::errc::result_out_of_range)
		fail("a number that is too large");
	if (error != std::errc() || stop != end)
		fail("a number that is none");
	return value;
}

void Reader::times(std::string_view text, Node &node)
{
	std::string_view seconds = cut(text, '.');

	node.mtime = number<int64_t>(seconds);
	node.mtime_nsec = number<uint32_t>(text);
	if (node.mtime_nsec > 999999999)
		fail("a time with more than 999999999 nanoseconds");
}

void Reader::payload(std::string_view text, Node &node)
{
	node.target = optional(text);
	if (node.target.find('\0') != std::string_view::npos)
		fail("a NUL in a name or a path");
	if (node.target.size() > LINK_LIMIT)
		fail("a payload of more than 4095 bytes");
	if (node.is(S_IFLNK)) {
		if (node.target.empty())
			fail("a symbolic link without a target");
		node.size = node.target.size();
	}
}

void Reader::content(std::string_view text, Node &node)
{
	std::string_view found = optional(text);

	if (found.empty())
		return;
	if (!node.is(S_IFREG))
		fail("content of what is no regular file");
	if (found.size() != node.size)
		fail("content of another size than the file");
	if (found.size() > CONTENT_LIMIT)
		fail("content of more than 5000 bytes");
	node.content = found;
}

void Reader::digest(std::string_view text, Node &node)
{
	char *raw;

	if (text.empty() || text == "-")
		return;
	if (text.size() != 2 * DIGEST_SIZE && text.size() != 2 * LONG_DIGEST_SIZE)
		fail("a digest of another length than 64 or 128 digits");
	raw = node.add_digest(tree_.arena, text.size() / 2);
	for (size_t i = 0; i < text.size() / 2; i++) {
		int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);

		if (high < 0 || low < 0)
			fail("a digest with something else than hex digits");
		raw[i] = static_cast<char>(high << 4 | low);
	}
}

void Reader::xattrs(std::string_view text, Node &node)
{
	if (text.size() > XATTR_TEXT_LIMIT)
		fail("more xattrs than a file can have");
	/* And two that the writer gives. */
	node.xattrs.reserve(static_cast<size_t>(std::count(text.begin(), text.end(), ' ')) +
			    !text.empty() + 2 * node.in_store());
	while (!text.empty()) {
		std::string_view value = cut(text, ' ');
		std::string_view key;

		if (value.find('=') == std::string_view::npos)
			fail("an xattr without a =");
		key = without_nul(cut(value, '='));
		value = unescape(value);
		if (key.empty() || key.size() > NAME_LIMIT)
			fail("an xattr whose name is empty or over 255 bytes");
		node.xattrs.emplace_back(key, value);
	}
}

/* The directory of a path; null: there is none. */
Node *Reader::parent_of(std::string_view path, std::string_view &name)
{
	size_t end = path.rfind('/');
	std::string_view directory = path.substr(0, end);
	Node *node = &tree_.nodes.front();

	name = path.substr(end + 1);
	if (parent_ && directory == directory_)
		return parent_;
	if (!directory.empty()) {
		Name *found = look_up(directory);

		if (!found || found->again || !found->node->names)
			return nullptr;
		node = found->node;
	}
	directory_ = directory;
	parent_ = node;
	return node;
}

Name *Reader::look_up(std::string_view path)
{
	Node *node = &tree_.nodes.front();

	for (;;) {
		Names::iterator found;

		path.remove_prefix(1);
		found = node->names->find(path.substr(0, path.find('/')));
		if (found == node->names->end())
			return nullptr;
		if (path.size() == found->first.size())
			return &found->second;
		path.remove_prefix(found->first.size());
		node = found->second.node;
		if (found->second.again || !node->names)
			return nullptr;
	}
}

void Reader::read_line(std::string_view line)
{
	std::string_view fields[FIELDS], path, name;
	Node *parent, *node;
	bool again;
	uint16_t mode;

	if (line.find('\0') != std::string_view::npos)
		fail("a NUL");
	for (std::string_view &field : fields)
		field = cut(line, ' ');
	for (std::string_view field : std::span(fields).first(CONTENT)) {
		if (field.empty())
			fail("a field that is missing or empty");
	}
	path = without_nul(fields[PATH]);
	if (path[0] != '/' || (path.size() > 1 && !is_relative(path.substr(1))))
		fail("a path that is not absolute, or has an empty name, . or .. in it");
	again = fields[MODE][0] == '@';
	if (again)
		fields[MODE].remove_prefix(1);
	/* mkcomposefs takes the lower half, and one of the peer's own files needs that. */
	mode = static_cast<uint16_t>(number<uint32_t>(fields[MODE], 8));
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		break;
	default:
		fail("a mode of no type");
	}
	if (again && S_ISDIR(mode))
		fail("a hard link that is a directory");

	if (path == "/") {
		if (!tree_.nodes.empty())
			fail("a second root");
		if (!S_ISDIR(mode))
			fail("a root that is no directory");
		node = tree_.add(nullptr, {}, mode);
	} else {
		if (tree_.nodes.empty())
			fail("a file before the root");
		parent = parent_of(path, name);
		if (!parent)
			fail("a file whose directory is not there before it");
		if (name.size() > NAME_LIMIT)
			fail("a name of more than 255 bytes");
		if (again) {
			auto [place, is_new] = parent->names->try_emplace(name, Name{ nullptr, true });
			std::string_view target = without_nul(fields[PAYLOAD]);

			if (!is_new)
				fail("a path that is there twice");
			if (target[0] != '/')
				fail("a hard link to no absolute path");
			pending_.push_back({ &place->second, nullptr, target, line_ });
			return;
		}
		node = tree_.add(parent, name, mode);
		if (!node)
			fail("a path that is there twice");
	}

	node->size = number<uint64_t>(fields[SIZE]);
	node->nlink = number<uint32_t>(fields[NLINK]);
	node->uid = number<uint32_t>(fields[UID]);
	node->gid = number<uint32_t>(fields[GID]);
	node->rdev = number<uint32_t>(fields[RDEV]);
	times(fields[MTIME], *node);
	if (node->size && (fields[CONTENT].empty() || fields[DIGEST].empty()))
		fail("a field that is missing or empty");
	payload(fields[PAYLOAD], *node);
	content(fields[CONTENT], *node);
	digest(fields[DIGEST], *node);
	xattrs(line, *node);
	if (node->in_store()) {
		if (node->size > SIZE_LIMIT)
			fail("a file of more than 8 PiB");
		if (!node->target.empty() &&
		    (has_control(node->target) || !is_relative(node->target)))
			fail("a payload that leads out of the store");
	}
	if (const char *rule = node->fault())
		fail(rule);
}

/* Links to links are followed, each once. */
void Reader::resolve()
{
	std::vector<std::pair<Name *, Pending *>> sorted;
	std::vector<Pending *> chain;

	for (Pending &one : pending_) {
		line_ = one.line;
		one.to = one.target == "/" ? nullptr : look_up(one.target);
		if (!one.to)
			fail("a hard link to what is not there, or is a directory");
		sorted.emplace_back(one.name, &one);
	}
	std::sort(sorted.begin(), sorted.end());
	for (Pending &one : pending_) {
		Name *end = one.name;

		chain.clear();
		while (!end->node) {
			auto found = std::lower_bound(sorted.begin(), sorted.end(),
						      std::pair<Name *, Pending *>(end, nullptr));

			if (chain.size() > pending_.size()) {
				line_ = one.line;
				fail("a hard link that leads to itself");
			}
			chain.push_back(found->second);
			end = found->second->to;
		}
		if (end->node->names) {
			line_ = one.line;
			fail("a hard link to what is not there, or is a directory");
		}
		for (Pending *link : chain)
			link->name->node = end->node;
	}
}

Tree Reader::read()
{
	while (!text_.empty()) {
		line_++;
		read_line(cut(text_, '\n'));
	}
	line_ = 0;
	if (tree_.nodes.empty())
		fail("no file");
	resolve();
	return std::move(tree_);
}

} // namespace

Tree read_dump(std::string_view text)
{
	return Reader(text).read();
}

} // namespace cfs
