/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "tree.h"

#include "format.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace cfs
{

namespace
{

constexpr size_t PIECE = size_t{ 1 } << 16;
/* <linux/fsverity.h> */
constexpr char SHA256_VERITY = 1, SHA512_VERITY = 2;
/* Linux fs/overlayfs: struct ovl_metacopy */
constexpr size_t METACOPY_HEAD = 4;
constexpr std::string_view OURS = "trusted.overlay.";
/* Of one file, as mkcomposefs takes it: names, values and 7 bytes each. */
constexpr size_t XATTR_LIMIT = 32767;

} // namespace

char *Arena::take(size_t size)
{
	char *taken;

	if (size > left_) {
		size_t length = std::max(size, PIECE);

		pieces_.push_back(std::make_unique_for_overwrite<char[]>(length));
		next_ = pieces_.back().get();
		left_ = length;
	}
	taken = next_;
	next_ += size;
	left_ -= size;
	return taken;
}

std::string_view Arena::join(std::initializer_list<std::string_view> pieces)
{
	size_t size = 0, used = 0;
	char *place;

	for (std::string_view piece : pieces)
		size += piece.size();
	place = take(size);
	for (std::string_view piece : pieces) {
		std::copy(piece.begin(), piece.end(), place + used);
		used += piece.size();
	}
	return { place, size };
}

bool Node::is(uint16_t type) const
{
	return (mode & S_IFMT) == type;
}

bool Node::is_whiteout() const
{
	return is(S_IFCHR) && rdev == 0;
}

bool Node::in_store() const
{
	return is(S_IFREG) && size && content.empty();
}

Property *Node::find(std::string_view name)
{
	for (Property &one : xattrs) {
		if (one.name() == name)
			return &one;
	}
	return nullptr;
}

const char *Node::fault()
{
	size_t used = XATTR_HEADER;

	if (is(S_IFDIR) && depth >= DEPTH_LIMIT)
		return "directories that are too deep in each other";
	for (const Property &one : xattrs) {
		std::string_view name = one.name();

		if (name.starts_with(PREFIXES[LUSTRE]))
			return "an xattr of a kind that images do not have";
		if (name.starts_with(OURS) && name.size() + OVERLAY.size() > NAME_LIMIT)
			return "an xattr of overlayfs whose name is too long when escaped";
		used += 7 + name.size() + one.value().size();
	}
	if (used > XATTR_LIMIT)
		return "more xattrs than a file can have";
	std::sort(xattrs.begin(), xattrs.end(),
		  [](const Property &a, const Property &b) { return a.name() < b.name(); });
	if (std::adjacent_find(xattrs.begin(), xattrs.end(),
			       [](const Property &a, const Property &b) {
				       return a.name() == b.name();
			       }) != xattrs.end())
		return "an xattr that is there twice";
	if (is(S_IFREG) && size && find("trusted.overlay.whiteout"))
		return "a file with content that an xattr makes a whiteout";
	return nullptr;
}

void Node::set(std::string_view name, std::string_view value)
{
	Property *found = find(name);

	if (found)
		*found = { name, value };
	else
		xattrs.emplace_back(name, value);
}

char *Node::add_digest(Arena &arena, size_t size)
{
	char *place = arena.take(METACOPY_HEAD + size);

	place[0] = 0; /* version */
	place[1] = static_cast<char>(METACOPY_HEAD + size);
	place[2] = 0; /* flags */
	place[3] = size == DIGEST_SIZE ? SHA256_VERITY : SHA512_VERITY;
	digest = place;
	return place + METACOPY_HEAD;
}

std::string_view Node::metacopy() const
{
	if (!digest)
		return {};
	return { digest, static_cast<uint8_t>(digest[1]) };
}

Node *Tree::add(Node *parent, std::string_view name, uint16_t mode)
{
	Node node;

	node.mode = mode;
	return add(parent, name, std::move(node));
}

Node *Tree::add(Node *parent, std::string_view name, Node &&node)
{
	Node *added = &nodes.emplace_back(std::move(node));

	added->parent = parent ? parent : added;
	if (added->is(S_IFDIR))
		added->names = std::make_unique<Names>();
	if (parent) {
		size_t before = parent->names->size();

		added->depth = parent->depth + 1;
		parent->names->emplace_hint(parent->names->end(), name, Name{ added, false });
		if (parent->names->size() == before)
			return nullptr;
	}
	return added;
}

Tree Tree::copy()
{
	Tree made;
	uint32_t number = 0;
	auto at = [&made](const Node *node) { return node ? &made.nodes[node->slot] : nullptr; };

	for (Node &node : nodes) {
		node.slot = number++;
		static_cast<Facts &>(made.nodes.emplace_back()) = node;
	}
	for (const Node &node : nodes) {
		Node &one = *at(&node);

		one.parent = at(node.parent);
		if (!node.names)
			continue;
		one.names = std::make_unique<Names>();
		for (const auto &[name, child] : *node.names)
			one.names->emplace_hint(one.names->end(), name,
						Name{ at(child.node), child.again });
	}
	return made;
}

} // namespace cfs
