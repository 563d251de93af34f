/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "erofs.h"

#include "format.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace cfs
{

namespace
{

constexpr uint32_t INCOMPATIBLE_CHUNKS = 4;

/* Of one inode, as libcomposefs counts it: names, values and 7 bytes each. */
constexpr uint64_t XATTR_LIMIT = 65535;
/* Which of 16 bits say neither the size of chunks nor of their addresses. The addresses are not
 * looked at: the content is in the store, and mkcomposefs puts those of files over 8 TiB where no
 * kernel looks for them. */
constexpr uint32_t CHUNK_RESERVED = 0xffc0;

constexpr char TWICE[] = "an xattr that is there twice";

/* What is asked for lies inside: the caller has looked. */
template <typename T> T little(std::string_view data, size_t offset)
{
	T value = 0;

	for (size_t i = 0; i < sizeof(T); i++)
		value = static_cast<T>(value |
				       static_cast<T>(static_cast<uint8_t>(data[offset + i]))
					       << (8 * i));
	return value;
}

uint16_t mode_of(uint8_t entry_type)
{
	static constexpr uint16_t modes[] = {
		0, S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, S_IFLNK,
	};

	return entry_type < sizeof(modes) / sizeof(modes[0]) ? modes[entry_type] : uint16_t{ 0 };
}

/* Of the name what is behind the kind, and behind the escape. */
bool is_mark(std::string_view name)
{
	return name == "overlay.whiteout" || name == "overlay.whiteouts";
}

/* Linux fs/overlayfs: struct ovl_metacopy, or nothing at all */
std::string_view digest_of(std::string_view value, uint64_t offset)
{
	uint8_t algorithm;
	std::string_view digest;

	if (value.empty())
		return {};
	if (value.size() < 4 || value[0] != 0 || static_cast<uint8_t>(value[1]) != value.size() ||
	    value[2] != 0)
		throw Malformed("metacopy xattr of an unknown form", offset);
	algorithm = static_cast<uint8_t>(value[3]);
	digest = value.substr(4);
	if (digest.size() != (algorithm == 1 ? 32U : algorithm == 2 ? 64U : 0U))
		throw Malformed("metacopy xattr whose digest is not of its algorithm", offset);
	return digest;
}

} // namespace

bool has_control(std::string_view path)
{
	return std::any_of(path.begin(), path.end(), [](char c) {
		auto byte = static_cast<uint8_t>(c);

		return byte < 0x20 || byte == 0x7f;
	});
}

bool is_relative(std::string_view path)
{
	for (;;) {
		size_t end = std::min(path.find('/'), path.size());
		std::string_view part = path.substr(0, end);

		if (part.empty() || part == "." || part == "..")
			return false;
		if (end == path.size())
			return true;
		path.remove_prefix(end + 1);
	}
}

bool Inode::is_directory() const
{
	return (mode & S_IFMT) == S_IFDIR;
}

bool Inode::is_regular() const
{
	return (mode & S_IFMT) == S_IFREG;
}

bool Inode::is_link() const
{
	return (mode & S_IFMT) == S_IFLNK;
}

bool Inode::is_whiteout() const
{
	return (mode & S_IFMT) == S_IFCHR && rdev == 0;
}

void Attributes::clear()
{
	payload = {};
	digest = {};
	whiteout = by_user = redirected = metacopy = false;
	others.clear();
}

Image::Image(std::string_view data) : data_(data)
{
	std::string_view super;

	if (data.size() < BLOCK)
		throw Malformed("smaller than a block", data.size());
	if (little<uint32_t>(data, 0) != COMPOSEFS_MAGIC)
		throw Malformed("no composefs header", 0);
	if (little<uint32_t>(data, 4) != COMPOSEFS_VERSION)
		throw Malformed("composefs header of an unknown version", 4);
	version_ = little<uint32_t>(data, 12);

	super = data.substr(SUPERBLOCK, SUPERBLOCK_SIZE);
	if (little<uint32_t>(super, 0) != EROFS_MAGIC)
		throw Malformed("no EROFS magic", SUPERBLOCK);
	if (super[12] != BLOCK_BITS)
		throw Malformed("blocks of another size than 4096", SUPERBLOCK + 12);
	if (little<uint32_t>(super, 80) & ~INCOMPATIBLE_CHUNKS)
		throw Malformed("EROFS features that composefs images do not have",
				SUPERBLOCK + 80);
	if (little<uint32_t>(super, 36) > data.size() / BLOCK)
		throw Malformed("more blocks than the file has", SUPERBLOCK + 36);
	root_ = little<uint16_t>(super, 14);
	build_time_ = static_cast<int64_t>(little<uint64_t>(super, 24));
	build_time_nsec_ = little<uint32_t>(super, 32);
	meta_ = uint64_t{ little<uint32_t>(super, 40) } * BLOCK;
	shared_ = uint64_t{ little<uint32_t>(super, 44) } * BLOCK;
	if (meta_ >= data.size())
		throw Malformed("inodes outside the file", SUPERBLOCK + 40);
	if (shared_ >= data.size())
		throw Malformed("shared xattrs outside the file", SUPERBLOCK + 44);
}

uint64_t Image::slots() const
{
	return (data_.size() - meta_) / SLOT;
}

std::string_view Image::at(uint64_t offset, uint64_t length, const char *rule) const
{
	if (offset > data_.size() || length > data_.size() - offset)
		throw Malformed(rule, std::min<uint64_t>(offset, data_.size()));
	return data_.substr(offset, length);
}

Inode Image::inode(uint64_t nid) const
{
	Inode inode = {};
	std::string_view raw;
	uint16_t format, xattr_count;
	uint64_t length;

	if (nid >= slots())
		throw Malformed("an inode outside the file", data_.size());
	inode.nid = nid;
	inode.offset = meta_ + nid * SLOT;
	format = little<uint16_t>(data_, inode.offset);
	length = format & 1 ? EXTENDED_SIZE : COMPACT_SIZE;
	raw = at(inode.offset, length, "an inode outside the file");
	xattr_count = little<uint16_t>(raw, 2);
	inode.mode = little<uint16_t>(raw, 4);
	inode.place = little<uint32_t>(raw, 16);
	if (format & 1) {
		inode.size = little<uint64_t>(raw, 8);
		inode.uid = little<uint32_t>(raw, 24);
		inode.gid = little<uint32_t>(raw, 28);
		inode.mtime = static_cast<int64_t>(little<uint64_t>(raw, 32));
		inode.mtime_nsec = little<uint32_t>(raw, 40);
		inode.nlink = little<uint32_t>(raw, 44);
	} else {
		inode.nlink = little<uint16_t>(raw, 6);
		inode.size = little<uint32_t>(raw, 8);
		inode.uid = little<uint16_t>(raw, 24);
		inode.gid = little<uint16_t>(raw, 26);
		inode.mtime = build_time_;
		inode.mtime_nsec = build_time_nsec_;
	}

	inode.layout = static_cast<Layout>(format >> 1);
	if (inode.layout != Layout::plain && inode.layout != Layout::inlined &&
	    inode.layout != Layout::chunks)
		throw Malformed("an inode of a format that composefs images do not have",
				inode.offset);
	switch (inode.mode & S_IFMT) {
	case S_IFCHR:
	case S_IFBLK:
		inode.rdev = inode.place;
		break;
	case S_IFDIR:
	case S_IFREG:
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
		break;
	default:
		throw Malformed("an inode of an unknown type", inode.offset + 4);
	}

	inode.xattrs = inode.offset + length;
	if (xattr_count)
		inode.xattr_size = static_cast<uint32_t>(XATTR_HEADER +
							 (xattr_count - 1U) * XATTR_ENTRY);
	at(inode.xattrs, inode.xattr_size, "xattrs outside the file");
	inode.tail = inode.xattrs + inode.xattr_size;
	if (inode.layout == Layout::inlined && inode.size && inode.size % BLOCK == 0)
		throw Malformed("an inode with an empty tail", inode.offset + 8);
	if (inode.layout == Layout::chunks) {
		if (!inode.is_regular())
			throw Malformed("chunks of what is no regular file", inode.offset);
		if (inode.place & CHUNK_RESERVED)
			throw Malformed("chunks of an unknown format", inode.offset + 16);
	}
	return inode;
}

uint64_t Image::blocks(const Inode &inode) const
{
	return inode.size / BLOCK + (inode.size % BLOCK != 0);
}

std::string_view Image::block(const Inode &inode, uint64_t number) const
{
	uint64_t length = std::min(BLOCK, inode.size - number * BLOCK);

	if (inode.layout == Layout::inlined && length < BLOCK) {
		if (inode.tail % BLOCK + length > BLOCK)
			throw Malformed("data across the end of a block", inode.tail);
		return at(inode.tail, length, "data outside the file");
	}
	if (number >= data_.size() / BLOCK)
		throw Malformed("data outside the file", data_.size());
	return at((uint64_t{ inode.place } + number) * BLOCK, length, "data outside the file");
}

std::string Image::content(const Inode &inode) const
{
	std::string found;

	if (inode.is_link() && (inode.size == 0 || inode.size > LINK_LIMIT))
		throw Malformed("a link of no possible length", inode.offset + 8);
	if (inode.size > CONTENT_LIMIT)
		throw Malformed("a file in the image that is too large for that", inode.offset + 8);
	for (uint64_t i = 0; i < blocks(inode); i++)
		found += block(inode, i);
	if (inode.is_link() && found.find('\0') != std::string::npos)
		throw Malformed("a link with a NUL", inode.offset);
	return found;
}

/* One xattr. Returns its end. */
uint64_t Image::take(uint64_t offset, bool all, uint64_t end, Attributes &out) const
{
	static constexpr char OUTSIDE[] = "an xattr outside its place";
	std::string_view head, suffix, value;
	uint8_t index;

	if (offset > end || end - offset < XATTR_ENTRY)
		throw Malformed(OUTSIDE, offset);
	head = data_.substr(offset, XATTR_ENTRY);
	index = static_cast<uint8_t>(head[1]);
	suffix = { data_.data() + offset + XATTR_ENTRY, static_cast<uint8_t>(head[0]) };
	value = { suffix.data() + suffix.size(), little<uint16_t>(head, 2) };
	if (suffix.size() + value.size() > end - offset - XATTR_ENTRY)
		throw Malformed(OUTSIDE, offset);
	if (index >= PREFIX_COUNT)
		throw Malformed("an xattr of an unknown kind", offset + 1);
	if (PREFIXES[index].size() + suffix.size() == 0 ||
	    PREFIXES[index].size() + suffix.size() > NAME_LIMIT ||
	    suffix.find('\0') != std::string_view::npos)
		throw Malformed("an xattr without a valid name", offset);
	end = offset + round_up(XATTR_ENTRY + suffix.size() + value.size(), 4);

	if (index == TRUSTED && suffix.starts_with(OVERLAY)) {
		suffix.remove_prefix(OVERLAY.size());
		if ((suffix == "redirect" && std::exchange(out.redirected, true)) ||
		    (suffix == "metacopy" && std::exchange(out.metacopy, true)) ||
		    (suffix == "overlay.whiteout" && std::exchange(out.whiteout, true)))
			throw Malformed(TWICE, offset);
		if (suffix == "redirect") {
			if (value.find('\0') != std::string_view::npos)
				throw Malformed("a redirect with a NUL", offset);
			/* A string of a directory may be a name, or anything. */
			out.payload = value;
			if (out.payload.starts_with('/'))
				out.payload.remove_prefix(1);
		} else if (suffix == "metacopy") {
			out.digest = digest_of(value, offset);
		} else if (all && suffix.starts_with(OVERLAY)) {
			/* overlayfs takes the escape away */
			out.others.push_back(
				{ "trusted." + std::string(suffix), value, is_mark(suffix) });
		}
		return end;
	}
	if (index == USER && suffix == "overlay.whiteout")
		out.by_user = true;
	if (index == 0) {
		for (size_t i = 1; i < PREFIX_COUNT; i++) {
			if (suffix.starts_with(PREFIXES[i]))
				throw Malformed("an xattr whose name is of another kind", offset);
		}
	}
	if (all)
		out.others.push_back({ std::string(PREFIXES[index]) + std::string(suffix), value,
				       index == USER && is_mark(suffix) });
	return end;
}

void Image::attributes(const Inode &inode, bool all, Attributes &out) const
{
	uint64_t offset, end = inode.tail, used = XATTR_HEADER;
	uint8_t shared;

	out.clear();
	if (inode.xattr_size == 0)
		return;
	shared = static_cast<uint8_t>(data_[inode.xattrs + 4]);
	offset = inode.xattrs + XATTR_HEADER;
	if (shared * XATTR_ENTRY > end - offset)
		throw Malformed("more shared xattrs than the inode has room for", inode.xattrs);
	offset += shared * XATTR_ENTRY;
	while (offset < end)
		offset = take(offset, all, end, out);
	for (unsigned i = 0; i < shared; i++) {
		uint64_t place = shared_ + uint64_t{ little<uint32_t>(
						   data_, inode.xattrs + XATTR_HEADER +
								  i * XATTR_ENTRY) } *
						   XATTR_ENTRY;

		take(place, all, data_.size(), out);
	}

	if (!inode.is_regular()) {
		out.payload = {};
		out.digest = {};
		out.whiteout = false;
	} else if (out.whiteout && inode.size) {
		throw Malformed("a whiteout with content", inode.offset);
	} else if (has_control(out.payload)) {
		throw Malformed("a redirect with a control character", inode.xattrs);
	} else if (!out.payload.empty() && !is_relative(out.payload)) {
		throw Malformed("a redirect that leads out of the store", inode.xattrs);
	}
	for (const Xattr &xattr : out.others)
		used += 7 + xattr.name.size() + xattr.value.size();
	if (used > XATTR_LIMIT)
		throw Malformed("more xattrs than an inode can have", inode.xattrs);
	if (out.others.size() > 1) {
		std::vector<std::string_view> names;

		for (const Xattr &xattr : out.others)
			names.push_back(xattr.name);
		std::sort(names.begin(), names.end());
		if (std::adjacent_find(names.begin(), names.end()) != names.end())
			throw Malformed(TWICE, inode.xattrs);
	}
}

Walk::Walk(const Image &image, std::vector<Hidden> *hidden)
	: image_(image), hidden_(hidden), seen_(image.slots()), inode_(image.inode(image.root()))
{
	if (!inode_.is_directory())
		throw Malformed("a root that is no directory", inode_.offset);
}

/* Inodes have places of their own, so all together have no more than the image. */
void Walk::see(uint32_t name)
{
	seen_[inode_.nid] = name + 1;
	used_ += inode_.tail - inode_.offset;
	if (inode_.layout == Layout::inlined)
		used_ += inode_.size % BLOCK;
	if (used_ > image_.size())
		throw Malformed("inodes that lie on each other", inode_.offset);
}

void Walk::enter(uint64_t parent, uint32_t name)
{
	Directory directory = {};

	if (stack_.size() >= DEPTH_LIMIT)
		throw Malformed("directories that are too deep in each other", inode_.offset);
	directory.inode = inode_;
	directory.parent = parent;
	directory.blocks = image_.blocks(inode_);
	directory.path_length = path_.size();
	directory.name = name;
	stack_.push_back(directory);
}

/* To the next entry of the directory; false: there is none. */
bool Walk::step(Directory &directory)
{
	std::string_view name;
	uint64_t nid;
	size_t start, end, position;
	uint8_t type;

	for (;;) {
		if (directory.entry == directory.entries) {
			if (directory.block == directory.blocks)
				return false;
			directory.data = image_.block(directory.inode, directory.block++);
			if (directory.data.size() < ENTRY_SIZE)
				throw Malformed("a directory without an entry",
						directory.inode.offset);
			start = little<uint16_t>(directory.data, 8);
			if (start == 0 || start % ENTRY_SIZE || start > directory.data.size())
				throw Malformed("a directory whose names begin nowhere",
						directory.inode.offset);
			directory.entry = 0;
			directory.entries = start / ENTRY_SIZE;
		}
		/* Of several directories with the same data each would have them all. */
		if (++count_ > image_.size() / ENTRY_SIZE)
			throw Malformed("more names than the file has room for",
					directory.inode.offset);
		position = directory.entry++ * ENTRY_SIZE;
		nid = little<uint64_t>(directory.data, position);
		start = little<uint16_t>(directory.data, position + 8);
		type = static_cast<uint8_t>(directory.data[position + 10]);
		end = directory.data.size();
		if (directory.entry < directory.entries)
			end = little<uint16_t>(directory.data, position + ENTRY_SIZE + 8);
		if (start < directory.entries * ENTRY_SIZE || start >= end ||
		    end > directory.data.size())
			throw Malformed("a name outside its directory", directory.inode.offset);
		name = directory.data.substr(start, end - start);
		if (directory.entry == directory.entries)
			name = name.substr(0, name.find('\0'));
		if (name.empty() || name.size() > NAME_LIMIT ||
		    name.find('/') != std::string_view::npos ||
		    name.find('\0') != std::string_view::npos)
			throw Malformed("a name that no file can have", directory.inode.offset);
		if (!directory.previous.empty() && name <= directory.previous)
			throw Malformed("names that are not in order", directory.inode.offset);
		directory.previous = name;

		if (name == "." || name == "..") {
			if (nid != (name == "." ? directory.inode.nid : directory.parent))
				throw Malformed("a directory that is not its own or its parent's",
						directory.inode.offset);
			continue;
		}
		inode_ = image_.inode(nid);
		if ((inode_.mode & S_IFMT) != mode_of(type))
			throw Malformed("an entry of another type than its inode",
					directory.inode.offset);
		if (!inode_.is_whiteout())
			break;
		if (hidden_)
			hidden_->push_back({ directory.inode.nid, nid,
					     static_cast<uint32_t>(names_.size()) });
	}
	path_.resize(directory.path_length);
	path_ += '/';
	path_ += name;
	names_.push_back({ directory.name, name });
	return true;
}

bool Walk::next()
{
	uint32_t name;

	if (!started_) {
		started_ = true;
		names_.push_back({ 0, {} });
		see(0);
		enter(inode_.nid, 0);
		return true;
	}
	while (!stack_.empty() && !step(stack_.back()))
		stack_.pop_back();
	if (stack_.empty())
		return false;
	name = this->name();
	directory_ = stack_.back().inode.nid;
	again_ = seen_[inode_.nid] != 0;
	if (again_) {
		if (inode_.is_directory())
			throw Malformed("a directory with two names", inode_.offset);
		return true;
	}
	see(name);
	if (inode_.is_directory())
		enter(directory_, name);
	return true;
}

void Walk::pass_over()
{
	if (inode_.is_directory() && !again_)
		stack_.pop_back();
}

std::string Walk::first_path() const
{
	return path_of(seen_[inode_.nid] - 1);
}

std::string Walk::path_of(uint32_t name) const
{
	std::vector<std::string_view> parts;
	std::string path;

	for (uint32_t i = name; i != 0; i = names_[i].parent)
		parts.push_back(names_[i].name);
	for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
		path += '/';
		path += *part;
	}
	return path;
}

} // namespace cfs
