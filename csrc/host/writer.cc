/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What stands where: the composefs header, the superblock, the inodes breadth first with what fits
 * behind them, the xattrs that several of them have, then whole blocks of directories and contents.
 * In the format of composefs-rs (`rust_`, RUST_VERSION) the inodes stand depth first.
 */
#include "writer.h"

#include "format.h"

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>

namespace cfs
{

namespace
{

/* What the reader of the host's tools takes. */
constexpr uint64_t IMAGE_LIMIT = uint64_t{ 1 } << 30;

constexpr uint32_t HEADER_HAS_ACL = 1;
constexpr uint32_t COMPATIBLE_MTIME = 2;
constexpr uint32_t COMPATIBLE_FILTER = 4;
constexpr uint32_t NOT_SHARED = UINT32_MAX;
constexpr unsigned SHARED_LIMIT = 128; /* of an inode */
constexpr unsigned RUST_SHARED_LIMIT = 255; /* what the inode's count holds */
constexpr uint32_t FILTER_SEED = 0x25bbe08f;
constexpr unsigned CHUNK_BITS_LIMIT = 31;
constexpr uint64_t CHUNK_ADDRESS = 4;

constexpr std::string_view OURS = "trusted.overlay.";
constexpr std::string_view ESCAPED = "trusted.overlay.overlay.";
constexpr std::string_view LABEL = "security.selinux";

template <typename T> char *put(char *out, T value)
{
	for (size_t i = 0; i < sizeof(T); i++)
		*out++ = static_cast<char>(static_cast<uint64_t>(value) >> (8 * i));
	return out;
}

char *put(char *out, std::string_view text)
{
	return std::copy(text.begin(), text.end(), out);
}

/* XXH32, which the kernel takes for the names of xattrs. */
uint32_t xxh32(std::string_view text, uint32_t seed)
{
	static constexpr uint32_t p1 = 0x9e3779b1, p2 = 0x85ebca77, p3 = 0xc2b2ae3d,
				  p4 = 0x27d4eb2f, p5 = 0x165667b1;
	auto word = [&text](size_t at) {
		uint32_t value = 0;

		for (size_t i = 4; i-- > 0;)
			value = value << 8 | static_cast<uint8_t>(text[at + i]);
		return value;
	};
	uint32_t hash = seed + p5;
	size_t at = 0;

	if (text.size() >= 16) {
		uint32_t lanes[] = { seed + p1 + p2, seed + p2, seed, seed - p1 };

		for (; text.size() - at >= 16; at += 16) {
			for (size_t i = 0; i < 4; i++)
				lanes[i] = std::rotl(lanes[i] + word(at + 4 * i) * p2, 13) * p1;
		}
		hash = std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) +
		       std::rotl(lanes[3], 18);
	}
	hash += static_cast<uint32_t>(text.size());
	for (; text.size() - at >= 4; at += 4)
		hash = std::rotl(hash + word(at) * p3, 17) * p4;
	for (; at < text.size(); at++)
		hash = std::rotl(hash + static_cast<uint8_t>(text[at]) * p5, 11) * p1;
	hash = (hash ^ hash >> 15) * p2;
	hash = (hash ^ hash >> 13) * p3;
	return hash ^ hash >> 16;
}

struct Key {
	uint8_t kind;
	std::string_view rest;
};

/* mkcomposefs does not know Lustre's. */
Key key_of(std::string_view name)
{
	for (size_t i = 1; i < PREFIX_COUNT; i++) {
		if (i != LUSTRE && name.starts_with(PREFIXES[i]))
			return { static_cast<uint8_t>(i), name.substr(PREFIXES[i].size()) };
	}
	return { 0, name };
}

uint64_t size_of(const Property &xattr)
{
	return round_up(XATTR_ENTRY + key_of(xattr.name()).rest.size() + xattr.value().size(), 4);
}

char *put_xattr(char *out, const Property &xattr)
{
	auto [kind, rest] = key_of(xattr.name());
	char *start = out;

	out = put(out, static_cast<uint8_t>(rest.size()));
	out = put(out, kind);
	out = put(out, static_cast<uint16_t>(xattr.value().size()));
	out = put(out, rest);
	put(out, xattr.value());
	return start + size_of(xattr);
}

uint8_t type_of(const Node &node)
{
	switch (node.mode & S_IFMT) {
	case S_IFREG:
		return 1;
	case S_IFDIR:
		return 2;
	case S_IFCHR:
		return 3;
	case S_IFBLK:
		return 4;
	case S_IFIFO:
		return 5;
	case S_IFSOCK:
		return 6;
	default:
		return 7; /* a link */
	}
}

/* For messages. It looks at all names on the way. */
std::string path_of(const Node &whose)
{
	std::string path;

	for (const Node *node = &whose; node->parent != node; node = node->parent) {
		for (const auto &[name, child] : *node->parent->names) {
			if (child.node == node) {
				path = std::string("/").append(name) + path;
				break;
			}
		}
	}
	return path;
}

void sort_by_name(std::vector<Property> &xattrs)
{
	std::sort(xattrs.begin(), xattrs.end(),
		  [](const Property &a, const Property &b) { return a.name() < b.name(); });
}

/* Of a file in the store: the logarithm of the size that its chunks have. */
unsigned chunk_bits(uint64_t size)
{
	auto bits = static_cast<unsigned>(std::bit_width(size - 1));

	return std::clamp(bits, BLOCK_BITS, BLOCK_BITS + CHUNK_BITS_LIMIT);
}

void add_dots(Node &directory)
{
	directory.names->insert_or_assign(".", Name{ &directory, true });
	directory.names->insert_or_assign("..", Name{ directory.parent, true });
}

/* In whole blocks, and behind the inode where it is half a block at most. */
void lay_out_names(Node &node)
{
	uint64_t used = 0;

	for (const auto &[name, child] : *node.names) {
		uint64_t size = ENTRY_SIZE + name.size();

		if (used + size > BLOCK) {
			node.blocks++;
			used = 0;
		}
		used += size;
	}
	if (used > BLOCK / 2) {
		node.blocks++;
		used = 0;
	}
	node.tail = static_cast<uint32_t>(used);
}

/* Some entries of a directory, as many as a block has or as stand behind the inode. */
void put_entries(char *out, Names::const_iterator first, Names::const_iterator last, size_t count)
{
	size_t place = count * ENTRY_SIZE;
	char *names = out + place;

	for (; first != last; ++first) {
		const Node &node = *first->second.node;

		out = put(out, uint64_t{ node.slot });
		out = put(out, static_cast<uint16_t>(place));
		*out++ = static_cast<char>(type_of(node));
		*out++ = 0;
		names = put(names, first->first);
		place += first->first.size();
	}
}

void put_names(const Node &node, char *tail, char *block)
{
	Names::const_iterator first = node.names->begin(), end = node.names->end(), next;
	uint32_t blocks = node.blocks;

	while (first != end) {
		uint64_t used = 0;
		size_t count = 0;

		for (next = first; next != end; ++next) {
			uint64_t size = ENTRY_SIZE + next->first.size();

			if (used + size > BLOCK)
				break;
			used += size;
			count++;
		}
		put_entries(blocks ? block : tail, first, next, count);
		if (blocks) {
			blocks--;
			block += BLOCK;
		}
		first = next;
	}
}

} // namespace

bool Versions::known() const
{
	return least == RUST_VERSION ? most == RUST_VERSION :
				       least <= most && most <= VERSION_LIMIT;
}

Writer::Writer(Tree &tree, Versions versions)
	: tree_(tree), version_(versions.least), rust_(version_ == RUST_VERSION)
{
	for (const Node &node : tree.nodes) {
		if (node.is_whiteout())
			version_ = versions.most;
	}
	for (Node &node : tree.nodes)
		escape(node);
	if (rust_) {
		order_deep();
	} else {
		add_whiteouts();
		order();
	}
	share();
	lay_out();
}

/* overlayfs is to give the file the xattrs that it has, and to find those that it needs. In the
 * format of composefs-rs the latter stand first. */
void Writer::escape(Node &node)
{
	Arena &arena = tree_.arena;
	size_t own = node.xattrs.size();

	if (rust_)
		sort_by_name(node.xattrs);
	for (Property &xattr : node.xattrs) {
		if (xattr.name().starts_with(OURS))
			xattr = { arena.join({ ESCAPED, xattr.name().substr(OURS.size()) }),
				  xattr.value() };
	}
	if (node.in_store()) {
		node.xattrs.emplace_back("trusted.overlay.metacopy", node.metacopy());
		if (!node.target.empty())
			node.xattrs.emplace_back("trusted.overlay.redirect",
						 arena.join({ "/", node.target }));
	}
	if (rust_)
		std::rotate(node.xattrs.begin(),
			    node.xattrs.begin() + static_cast<ptrdiff_t>(own), node.xattrs.end());
	if (node.is_whiteout() && !rust_) {
		node.mode = static_cast<uint16_t>(S_IFREG | (node.mode & ~S_IFMT));
		node.size = 0;
		node.set("trusted.overlay.overlay.whiteout", {});
		node.set("user.overlay.whiteout", {});
		node.parent->has_whiteouts = true;
	}
}

/* Of each directory that has some; and those of the root, which hide the store's directories. */
void Writer::add_whiteouts()
{
	static constexpr char digits[] = "0123456789abcdef";
	Node &root = tree_.nodes.front();
	Property *label;

	for (Node &node : tree_.nodes) {
		if (!node.has_whiteouts)
			continue;
		node.set("trusted.overlay.overlay.whiteouts", {});
		node.set("user.overlay.whiteouts", {});
		if (version_ >= 1) {
			node.set("trusted.overlay.overlay.opaque", "x");
			node.set("user.overlay.opaque", "x");
		}
	}
	root.set("trusted.overlay.opaque", "y");
	label = root.find(LABEL);
	for (unsigned i = 0; i < 256; i++) {
		const char text[] = { digits[i >> 4], digits[i & 15] };
		std::string_view name(text, sizeof(text));
		Node *node;

		if (root.names->contains(name))
			continue;
		node = tree_.add(&root, tree_.arena.join({ name }), S_IFCHR | 0644);
		node->uid = root.uid;
		node->gid = root.gid;
		node->mtime = root.mtime;
		node->mtime_nsec = root.mtime_nsec;
		if (label)
			node->xattrs.push_back(*label);
	}
}

/* Breadth first. */
void Writer::order()
{
	Node &root = tree_.nodes.front();

	mtime_ = root.mtime;
	mtime_nsec_ = root.mtime_nsec;
	nodes_.reserve(tree_.nodes.size());
	nodes_.push_back(&root);
	for (size_t i = 0; i < nodes_.size(); i++) {
		Node &node = *nodes_[i];

		sort_by_name(node.xattrs);
		if (node.find(PREFIXES[2]) || node.find(PREFIXES[3]))
			has_acl_ = true;
		if (std::pair(node.mtime, node.mtime_nsec) < std::pair(mtime_, mtime_nsec_)) {
			mtime_ = node.mtime;
			mtime_nsec_ = node.mtime_nsec;
		}
		if (!node.names)
			continue;
		node.nlink = 2;
		for (const auto &[name, child] : *node.names) {
			if (child.again)
				continue;
			nodes_.push_back(child.node);
			if (child.node->is(S_IFDIR))
				node.nlink++;
		}
		add_dots(node);
	}
}

/* Depth first. A node stands where its first name is, and has as many links as names. */
void Writer::order_deep()
{
	struct Open {
		Node *node;
		Names::const_iterator next;
	};
	std::vector<Open> way;
	auto enter = [&](Node *node) {
		nodes_.push_back(node);
		if (node->names) {
			node->nlink = 2;
			way.push_back({ node, node->names->cbegin() });
		}
	};

	for (Node &node : tree_.nodes)
		node.nlink = 0;
	nodes_.reserve(tree_.nodes.size());
	enter(&tree_.nodes.front());
	while (!way.empty()) {
		auto &[directory, next] = way.back();

		if (next == directory->names->cend()) {
			add_dots(*directory);
			way.pop_back();
			continue;
		}
		Node *node = next++->second.node;

		if (node->names)
			directory->nlink++;
		else if (node->nlink++)
			continue;
		enter(node);
	}
}

/* Of two that are shared. */
bool Writer::stands_before(const Property &a, const Property &b) const
{
	if (rust_) {
		Key one = key_of(a.name()), other = key_of(b.name());

		return std::tuple(one.kind, one.rest, a.value()) <
		       std::tuple(other.kind, other.rest, b.value());
	}
	if (a.name() != b.name())
		return a.name() > b.name();
	if (a.value().size() != b.value().size())
		return a.value().size() > b.value().size();
	return a.value() > b.value();
}

/* Xattrs that are there several times stand once, in the order of names and values backwards; by
 * composefs-rs forwards, and kind by kind. */
void Writer::share()
{
	struct Entry {
		size_t hash;
		Property *xattr;
	};
	std::vector<Entry> all;
	std::vector<std::pair<size_t, size_t>> groups;
	std::hash<std::string_view> hash;
	size_t count = 0;
	auto same = [](const Property &a, const Property &b) {
		return a.name() == b.name() && a.value() == b.value();
	};

	for (const Node *node : nodes_)
		count += node->xattrs.size();
	all.reserve(count);
	for (Node *node : nodes_) {
		for (Property &xattr : node->xattrs)
			all.push_back({ hash(xattr.name()) * 31 + hash(xattr.value()), &xattr });
	}
	std::sort(all.begin(), all.end(), [](const Entry &a, const Entry &b) {
		if (a.hash != b.hash)
			return a.hash < b.hash;
		return std::pair(a.xattr->name(), a.xattr->value()) <
		       std::pair(b.xattr->name(), b.xattr->value());
	});
	for (size_t i = 0, end; i < all.size(); i = end) {
		for (end = i + 1; end < all.size() && same(*all[i].xattr, *all[end].xattr);)
			end++;
		if (end - i > 1)
			groups.emplace_back(i, end);
		else
			all[i].xattr->shared = NOT_SHARED;
	}
	std::sort(groups.begin(), groups.end(), [&](const auto &a, const auto &b) {
		return stands_before(*all[a.first].xattr, *all[b.first].xattr);
	});
	for (auto [first, last] : groups) {
		shared_.push_back(all[first].xattr);
		for (size_t i = first; i < last; i++)
			all[i].xattr->shared = static_cast<uint32_t>(shared_size_);
		shared_size_ += size_of(*all[first].xattr);
		if (shared_size_ > IMAGE_LIMIT)
			throw Unfit("an image of more than 1 GiB", 0);
	}
	for (Node *node : nodes_) {
		unsigned count = 0;

		for (Property &xattr : node->xattrs) {
			if (xattr.shared != NOT_SHARED &&
			    ++count > (rust_ ? RUST_SHARED_LIMIT : SHARED_LIMIT))
				xattr.shared = NOT_SHARED;
		}
	}
}

void Writer::lay_out_content(Node &node) const
{
	if (node.is(S_IFDIR)) {
		lay_out_names(node);
	} else if (node.is(S_IFLNK)) {
		node.tail = static_cast<uint32_t>(node.target.size());
	} else if (node.in_store() && rust_) {
		/* One chunk, whatever its size; without a digest not even that. */
		node.tail = node.digest ? CHUNK_ADDRESS : 0;
	} else if (node.in_store()) {
		unsigned bits = chunk_bits(node.size);

		node.tail = static_cast<uint32_t>(((node.size - 1) >> bits) + 1) * CHUNK_ADDRESS;
	} else if (node.is(S_IFREG)) {
		node.blocks = static_cast<uint32_t>(node.size / BLOCK);
		node.tail = static_cast<uint32_t>(node.size % BLOCK);
		if (node.tail > BLOCK / 2) {
			node.blocks++;
			node.tail = 0;
		}
	}
}

/* `head`: of the inode with its xattrs. What stands behind it is in one block, of a link with the
 * inode itself. Where that cannot be, it gets a block of its own. In the format of composefs-rs the
 * inode is moved once, by its distance to the block's end, and nothing else is tried: it writes a
 * link that goes beyond the next end too, and no kernel reads that. */
void Writer::lay_out_tail(Node &node, uint64_t &pos, uint64_t head) const
{
	uint64_t left, padding;

	if (rust_) {
		uint64_t last = pos + head - 1;

		if (node.in_store() || !node.tail)
			return;
		if (last / BLOCK != (last + 1 + node.tail) / BLOCK)
			pos = round_up(pos + BLOCK - last % BLOCK, SLOT);
		if ((pos + head) % BLOCK + node.tail > BLOCK)
			throw Unfit(path_of(node) + ": a link that is too long for format 2", 0);
		return;
	}
	if (node.is(S_IFLNK)) {
		uint64_t whole = head + node.tail;

		if (whole >= BLOCK) {
			node.blocks++;
			node.tail = 0;
		}
		if (pos / BLOCK != (pos + whole - 1) / BLOCK)
			pos = round_up(pos, BLOCK);
		return;
	}
	left = BLOCK - (pos + head) % BLOCK;
	if (left >= node.tail)
		return;
	padding = round_up(left, SLOT);
	if (node.tail <= BLOCK - (pos + head + padding) % BLOCK) {
		pos += padding;
		return;
	}
	node.blocks++;
	node.tail = 0;
	pos = round_up(pos, BLOCK);
}

void Writer::lay_out()
{
	uint64_t pos = SUPERBLOCK + SUPERBLOCK_SIZE, blocks = 0;

	for (Node *node : nodes_) {
		uint64_t head, own = 0, shared = 0;

		lay_out_content(*node);
		node->compact = !rust_ && node->mtime == mtime_ && node->mtime_nsec == mtime_nsec_ &&
				node->nlink <= UINT16_MAX && node->uid <= UINT16_MAX &&
				node->gid <= UINT16_MAX &&
				(node->is(S_IFDIR) || node->size <= UINT32_MAX);
		for (const Property &xattr : node->xattrs) {
			if (xattr.shared == NOT_SHARED)
				own += size_of(xattr);
			else
				shared += XATTR_ENTRY;
		}
		if (own + shared)
			node->xattr_size = static_cast<uint32_t>(XATTR_HEADER + shared + own);
		head = (node->compact ? COMPACT_SIZE : EXTENDED_SIZE) + node->xattr_size;
		pos = round_up(pos, SLOT);
		lay_out_tail(*node, pos, head);
		node->slot = static_cast<uint32_t>(pos / SLOT);
		pos += head + node->tail;
		blocks += node->blocks;
		if (pos + blocks * BLOCK + shared_size_ > IMAGE_LIMIT - BLOCK)
			throw Unfit("an image of more than 1 GiB", 0);
	}
	inodes_end_ = round_up(pos, SLOT);
	shared_block_ = rust_ ? 0 : inodes_end_ / BLOCK;
	data_start_ = round_up(inodes_end_ + shared_size_, BLOCK);
	size_ = data_start_ + blocks * BLOCK;
}

void Writer::write(char *out) const
{
	uint64_t data = data_start_;
	uint32_t number = 0;
	char *next = out + inodes_end_;

	memset(out, 0, size_);
	write_head(out);
	for (const Node *node : nodes_)
		data = write_inode(*node, number++, data, out);
	for (const Property *xattr : shared_)
		next = put_xattr(next, *xattr);
}

void Writer::write_head(char *out) const
{
	char *super = out + SUPERBLOCK;

	out = put(out, COMPOSEFS_MAGIC);
	out = put(out, COMPOSEFS_VERSION);
	out = put(out, has_acl_ ? HEADER_HAS_ACL : 0U);
	put(out, uint32_t{ version_ });

	put(super, EROFS_MAGIC);
	put(super + 8, COMPATIBLE_MTIME | COMPATIBLE_FILTER);
	put(super + 12, static_cast<uint8_t>(BLOCK_BITS));
	put(super + 14, static_cast<uint16_t>(nodes_.front()->slot));
	put(super + 16, uint64_t{ nodes_.size() });
	put(super + 24, mtime_);
	put(super + 32, mtime_nsec_);
	put(super + 36, static_cast<uint32_t>(size_ / BLOCK));
	put(super + 44, static_cast<uint32_t>(shared_block_));
}

/* `data`: the next free block. Returns the one behind what the inode takes. */
uint64_t Writer::write_inode(const Node &node, uint32_t number, uint64_t data, char *image) const
{
	char *start = image + node.slot * SLOT, *out = start, *block = image + data;
	Layout layout = node.in_store() ? Layout::chunks :
			node.tail	? Layout::inlined :
					  Layout::plain;
	auto format = static_cast<uint16_t>(static_cast<unsigned>(layout) << 1 | !node.compact);
	uint32_t place = node.blocks ? static_cast<uint32_t>(data / BLOCK) : 0;
	uint64_t size = 0;

	if (node.is(S_IFDIR))
		size = node.blocks * BLOCK + node.tail;
	else if (node.is(S_IFREG) || node.is(S_IFLNK))
		size = node.size;
	else if (node.is(S_IFCHR) || node.is(S_IFBLK))
		place = node.rdev;
	/* mkcomposefs writes it over the lower half of the place. */
	if (layout == Layout::chunks)
		place = (place & 0xffff0000) |
			(rust_ ? CHUNK_BITS_LIMIT : chunk_bits(node.size) - BLOCK_BITS);
	if (rust_)
		number = node.slot;

	out = put(out, format);
	out = put(out, static_cast<uint16_t>(
			       node.xattr_size ?
				       (node.xattr_size - XATTR_HEADER) / XATTR_ENTRY + 1 :
				       0));
	out = put(out, node.mode);
	if (node.compact) {
		out = put(out, static_cast<uint16_t>(node.nlink));
		out = put(out, static_cast<uint32_t>(size));
		out = put(out, uint32_t{ 0 });
		out = put(out, place);
		out = put(out, number);
		out = put(out, static_cast<uint16_t>(node.uid));
		put(out, static_cast<uint16_t>(node.gid));
		out = start + COMPACT_SIZE;
	} else {
		out = put(out, uint16_t{ 0 });
		out = put(out, size);
		out = put(out, place);
		out = put(out, number);
		out = put(out, node.uid);
		out = put(out, node.gid);
		out = put(out, node.mtime);
		out = put(out, rust_ ? uint32_t{ 0 } : node.mtime_nsec);
		put(out, node.nlink);
		out = start + EXTENDED_SIZE;
	}
	out = write_xattrs(node, out);

	if (node.is(S_IFDIR)) {
		put_names(node, out, block);
	} else if (layout == Layout::chunks) {
		/* No address: the content is in the store. */
		memset(out, 0xff, node.tail);
		memset(block, 0xff, node.blocks * BLOCK);
	} else {
		std::string_view text = node.is(S_IFLNK) ? node.target : node.content;
		size_t whole = std::min<size_t>(node.blocks * BLOCK, text.size());

		if (!text.empty()) {
			put(block, text.substr(0, whole));
			put(out, text.substr(whole));
		}
	}
	return data + node.blocks * BLOCK;
}

char *Writer::write_xattrs(const Node &node, char *out) const
{
	char *start = out;
	uint32_t names = 0;
	uint8_t shared = 0;

	if (!node.xattr_size)
		return out;
	for (const Property &xattr : node.xattrs) {
		auto [kind, rest] = key_of(xattr.name());

		names |= uint32_t{ 1 } << (xxh32(rest, FILTER_SEED + kind) & 31);
		if (xattr.shared != NOT_SHARED)
			shared++;
	}
	put(out, ~names);
	put(out + 4, shared);
	out += XATTR_HEADER;
	for (const Property &xattr : node.xattrs) {
		uint64_t place = inodes_end_ - shared_block_ * BLOCK + xattr.shared;

		if (xattr.shared != NOT_SHARED)
			out = put(out, static_cast<uint32_t>(place / XATTR_ENTRY));
	}
	for (const Property &xattr : node.xattrs) {
		if (xattr.shared == NOT_SHARED)
			out = put_xattr(out, xattr);
	}
	return start + node.xattr_size;
}

} // namespace cfs
