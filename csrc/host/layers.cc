/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "layers.h"

#include "format.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <memory>
#include <tuple>
#include <utility>

namespace cfs
{

namespace
{

constexpr std::string_view WHITEOUT = ".wh.";
constexpr std::string_view MARKER = ".wh..wh."; /* of aufs; one of them is of OCI too */
constexpr std::string_view OPAQUE = ".wh..wh..opq";
/* Of a directory that no layer has an entry of, but of what is in it. */
constexpr uint16_t IMPLIED = S_IFDIR | 0755;

constexpr char TOO_MUCH[] = "more files, or longer names, than 4 GiB of memory hold";
/* A small content, or the digest of another and what is named by it: here, among the copies, and
 * while one waits for its name. */
constexpr uint64_t OF_CONTENT = 640;

[[noreturn]] void fail(const char *rule)
{
	throw BrokenTar(rule);
}

/* /a/b of a/./b/ */
std::string plain(std::string_view path)
{
	std::string out;
	size_t depth = 0;

	if (path.starts_with('/'))
		fail("a path that begins with a slash");
	while (!path.empty()) {
		size_t end = std::min(path.size(), path.find('/'));
		std::string_view name = path.substr(0, end);

		path.remove_prefix(std::min(end + 1, path.size()));
		if (name.empty() || name == ".")
			continue;
		if (name == "..")
			fail("a path with ..");
		if (name.size() > NAME_LIMIT)
			fail("a name of more than 255 bytes");
		if (++depth > DEPTH_LIMIT)
			fail("directories that are too deep in each other");
		if (name.starts_with(WHITEOUT) && !path.empty())
			fail("something in a whiteout");
		out += '/';
		out += name;
	}
	return out;
}

/* The file of a whiteout, and what kind it is. */
std::pair<std::string, Item::Kind> marked(std::string path)
{
	size_t slash = path.rfind('/');
	std::string name = path.substr(slash + 1);

	if (name == OPAQUE)
		return { path.substr(0, slash), Item::Kind::opaque };
	if (name.starts_with(MARKER))
		fail("a marker of aufs");
	name.erase(0, WHITEOUT.size());
	if (name.empty() || name == "." || name == "..")
		fail("a whiteout of no file");
	return { path.substr(0, slash + 1) + name, Item::Kind::whiteout };
}

/* A file, or whatever it is, where it has a name. */
struct Place {
	Item *item = nullptr; /* none: a directory that nothing has said anything of */
	std::unique_ptr<std::map<std::string_view, Place>> names; /* of a directory */
};

using Places = std::map<std::string_view, Place>;

/* And what becomes of it: a node, and its name in a directory. */
constexpr uint64_t OF_PLACE =
	sizeof(Places::value_type) + sizeof(Places) + sizeof(Node) + sizeof(Names::value_type) + 64;

Node copy_of(const Node &node)
{
	Node copy;

	static_cast<Facts &>(copy) = node;
	return copy;
}

class Merger {
    public:
	Merger(const Adjustment &how, Budget &budget) : how_(how), budget_(budget)
	{
		root_.names = std::make_unique<Places>();
	}

	void add(Layer &layer, size_t number)
	{
		layer_ = number;
		/* Those speak of the layers below, wherever they stand. */
		for (const Item &item : layer.items) {
			if (item.kind == Item::Kind::whiteout || item.kind == Item::Kind::opaque)
				remove(item);
		}
		for (Item &item : layer.items) {
			if (item.kind == Item::Kind::file || item.kind == Item::Kind::link)
				put(item);
		}
	}

	Tree made();

    private:
	struct Step {
		Places::iterator next, end;
		Node *directory;
		size_t path; /* its length */
	};

	[[noreturn]] void broken(std::string_view path, const char *rule) const
	{
		throw BadLayer(layer_, std::string(path), 0, rule);
	}
	Place *find(std::string_view path);
	Places &directory(std::string_view path, std::string_view whole);
	void remove(const Item &item);
	void put(Item &item);
	void make(Tree &tree, Step &parent, std::string_view name, Place &place);

	const Adjustment &how_;
	Budget &budget_;
	Place root_;
	size_t layer_ = 0;
	std::string path_;
	std::vector<Step> steps_;
};

/* The first name of a path, which is taken away from it. */
std::string_view first(std::string_view &path)
{
	size_t end = std::min(path.size(), path.find('/', 1));
	std::string_view name = path.substr(1, end - 1);

	path.remove_prefix(end);
	return name;
}

/* Null: there is none. No link is followed. */
Place *Merger::find(std::string_view path)
{
	Place *place = &root_;

	while (!path.empty()) {
		if (!place->names)
			return nullptr;
		auto found = place->names->find(first(path));

		if (found == place->names->end())
			return nullptr;
		place = &found->second;
	}
	return place;
}

/* What is in a directory, which is made where there is nothing. */
Places &Merger::directory(std::string_view path, std::string_view whole)
{
	Place *place = &root_;

	while (!path.empty()) {
		auto [found, is_new] = place->names->try_emplace(first(path));

		place = &found->second;
		if (is_new && !budget_.take(OF_PLACE))
			broken(whole, TOO_MUCH);
		if (is_new)
			place->names = std::make_unique<Places>();
		if (place->item && place->item->node.is(S_IFLNK))
			broken(whole, "a path that leads through a link");
		if (!place->names)
			broken(whole, "a path that leads through what is no directory");
	}
	return *place->names;
}

void Merger::remove(const Item &item)
{
	bool opaque = item.kind == Item::Kind::opaque;
	std::string_view parent = item.path;

	if (!opaque)
		parent = parent.substr(0, parent.rfind('/'));
	Place *place = find(parent);

	if (!place || !place->names)
		return; /* this layer may make a directory of what is a link below */
	if (opaque)
		place->names->clear();
	else
		place->names->erase(item.path.substr(parent.size() + 1));
}

/* The last one wins. A directory over a directory has what was in that. */
void Merger::put(Item &item)
{
	size_t slash = item.path.rfind('/');
	Place *place = &root_, *target;
	bool is_directory = item.kind == Item::Kind::file && item.node.is(S_IFDIR);

	if (item.path.empty()) {
		if (!is_directory)
			broken(item.path, "a root that is no directory");
	} else {
		Places &names = directory(item.path.substr(0, slash), item.path);

		auto [found, is_new] = names.try_emplace(item.path.substr(slash + 1));

		place = &found->second;
		if (is_new && !budget_.take(OF_PLACE))
			broken(item.path, TOO_MUCH);
	}
	if (is_directory) {
		place->item = &item;
		if (!place->names)
			place->names = std::make_unique<Places>();
		return;
	}
	place->names.reset();
	place->item = nullptr;
	if (item.kind == Item::Kind::file) {
		place->item = &item;
		return;
	}
	target = find(item.target);
	if (!target || !target->item || target->names)
		broken(item.path, "a hard link to no file");
	place->item = target->item;
	place->item->links++;
}

void Merger::make(Tree &tree, Step &parent, std::string_view name, Place &place)
{
	Item *item = place.item;
	Node *node;

	if (!item) {
		node = tree.add(parent.directory, name, IMPLIED);
	} else if (!item->links || place.names) {
		node = tree.add(parent.directory, name, std::move(item->node));
	} else if (!item->made) {
		node = item->made = tree.add(parent.directory, name, copy_of(item->node));
	} else if (how_.bootable) {
		parent.directory->names->emplace(name, Name{ item->made, true });
		item->made->nlink++;
		return;
	} else { /* as mkcomposefs has it */
		node = tree.add(parent.directory, name, copy_of(item->node));
	}
	if (place.names)
		steps_.push_back({ place.names->begin(), place.names->end(), node, path_.size() });
}

/* Depth first, by bytes: so the first name of a file is the one where mkcomposefs has it. */
Tree Merger::made()
{
	Tree tree;
	Node *root = root_.item ? tree.add(nullptr, {}, std::move(root_.item->node)) :
				  tree.add(nullptr, {}, IMPLIED);

	steps_.push_back({ root_.names->begin(), root_.names->end(), root, 0 });
	while (!steps_.empty()) {
		Step &step = steps_.back();

		if (step.next == step.end) {
			steps_.pop_back();
			continue;
		}
		auto &[name, place] = *step.next++;

		path_.resize(step.path);
		path_ += '/';
		path_ += name;
		if (!how_.excludes(path_))
			make(tree, step, name, place);
	}
	return tree;
}

} // namespace

Item &add_item(Layer &layer, TarEntry &entry, Budget &budget)
{
	std::string path = plain(entry.path);
	uint64_t wanted = sizeof(Item) + path.size() + entry.link.size();
	Item item;
	Node &node = item.node;

	for (const auto &[name, value] : entry.xattrs)
		wanted += sizeof(Property) + name.size() + value.size();
	if (!budget.take(wanted + (entry.size ? OF_CONTENT : 0)))
		fail(TOO_MUCH);

	if (path.compare(path.rfind('/') + 1, WHITEOUT.size(), WHITEOUT) == 0) {
		if (entry.size)
			fail("a whiteout with content");
		std::tie(path, item.kind) = marked(std::move(path));
	}
	item.path = layer.arena.join({ path });
	if (entry.hard_link && item.kind == Item::Kind::file) {
		item.kind = Item::Kind::link;
		item.target = layer.arena.join({ plain(entry.link) });
	}
	if (item.kind == Item::Kind::file) {
		node.mode = entry.mode;
		node.uid = entry.uid;
		node.gid = entry.gid;
		node.rdev = entry.rdev;
		node.mtime = entry.mtime;
		node.mtime_nsec = entry.mtime_nsec;
		node.size = entry.size;
		node.depth = static_cast<uint32_t>(std::count(path.begin(), path.end(), '/'));
		if (node.is(S_IFLNK)) {
			if (entry.link.empty() || entry.link.size() > LINK_LIMIT)
				fail("a link of no possible length");
			node.target = layer.arena.join({ entry.link });
			node.size = entry.link.size();
		}
		for (const auto &[name, value] : entry.xattrs)
			node.xattrs.emplace_back(layer.arena.join({ name }),
						 layer.arena.join({ value }));
		if (const char *rule = node.fault())
			fail(rule);
	}
	return layer.items.emplace_back(std::move(item));
}

Tree merge_layers(std::vector<Layer> &layers, const Adjustment &how, Budget &budget)
{
	Merger merger(how, budget);
	std::vector<Linked> none;

	for (size_t i = 0; i < layers.size(); i++)
		merger.add(layers[i], i);
	Tree tree = merger.made();

	for (Layer &layer : layers)
		tree.more.push_back(std::move(layer.arena));
	layers.clear();
	adjust(tree, none, how);
	return tree;
}

} // namespace cfs
