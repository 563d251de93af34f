/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "adjust.h"

#include <fnmatch.h>
#include <sys/stat.h>

#include <algorithm>
#include <tuple>
#include <utility>

namespace cfs
{

namespace
{

/* The only xattr that containers and composefs-rs keep. */
constexpr std::string_view CAPABILITY = "security.capability";
constexpr std::string_view SELINUX = "security.selinux";

Node *directory_of(Tree &tree, std::string_view name)
{
	Names &names = *tree.nodes.front().names;
	auto found = names.find(name);

	return found != names.end() && found->second.node->names ? found->second.node : nullptr;
}

/* Names of one file stand for one inode. Its place is that of the first name: depth first, by
 * bytes. */
void link(std::vector<Linked> &linked)
{
	for (Linked &one : linked)
		std::replace(one.path.begin(), one.path.end(), '/', '\0');
	std::sort(linked.begin(), linked.end(), [](const Linked &a, const Linked &b) {
		return std::tie(a.device, a.inode, a.path) < std::tie(b.device, b.inode, b.path);
	});
	for (size_t i = 0, end; i < linked.size(); i = end) {
		Node *first = linked[i].parent->names->at(linked[i].name).node;

		for (end = i + 1; end < linked.size() && linked[end].device == linked[i].device &&
				  linked[end].inode == linked[i].inode;
		     end++) {
			Name &name = linked[end].parent->names->at(linked[end].name);

			*name.node = Node(); /* nobody comes to it any more */
			name = { first, true };
		}
		first->nlink = static_cast<uint32_t>(end - i);
	}
}

/* So that it is the same tree whether it comes from layers, which say nothing of the root and have
 * more or less of /run, or from what they were unpacked to. /boot has what names the image. */
void bootable(Tree &tree, bool labelled)
{
	Node &root = tree.nodes.front();
	Node *usr = directory_of(tree, "usr");

	if (!usr)
		throw Unfit("no directory /usr, which a tree that boots has", 0);
	if (Node *etc = directory_of(tree, "etc"); etc && !labelled) {
		auto found = etc->names->find("selinux");

		if (found != etc->names->end() && found->second.node->names &&
		    found->second.node->names->contains("config"))
			throw Unfit("an SELinux policy, whose labels are given by nobody here", 0);
	}
	for (Node &node : tree.nodes)
		std::erase_if(node.xattrs,
			      [](const Property &one) { return one.name() != CAPABILITY; });
	for (std::string_view name : { "boot", "sysroot", "run" }) {
		Node *emptied = directory_of(tree, name);

		if (!emptied && name != "run")
			throw Unfit("no directory /boot or /sysroot, which a tree that boots has",
				    0);
		if (emptied)
			std::tie(emptied->mtime, emptied->mtime_nsec) =
				std::tie(usr->mtime, usr->mtime_nsec);
	}
	root.mode = usr->mode;
	root.uid = usr->uid;
	root.gid = usr->gid;
	root.mtime = usr->mtime;
	root.mtime_nsec = usr->mtime_nsec;
	root.xattrs = usr->xattrs;
}

/* What has no label in the policy keeps the one that it has. */
void relabel(Tree &tree, const Label &label)
{
	std::vector<std::pair<Node *, std::string>> todo = { { &tree.nodes.front(), {} } };

	while (!todo.empty()) {
		auto [node, path] = std::move(todo.back());
		std::string given = label(path.empty() ? "/" : path, node->mode);

		todo.pop_back();
		if (!given.empty())
			node->set(SELINUX, tree.arena.join({ given }));
		if (const char *rule = node->fault())
			throw Unfit(rule, 0);
		if (!node->names)
			continue;
		for (const auto &[name, child] : *node->names) {
			if (!child.again)
				todo.emplace_back(child.node, path + '/' + std::string(name));
		}
	}
}

} // namespace

bool Adjustment::excludes(const std::string &path) const
{
	if (bootable && (path.starts_with("/boot/") || path.starts_with("/sysroot/") ||
			 path.starts_with("/run/")))
		return true;
	return std::any_of(excluded.begin(), excluded.end(), [&path](const std::string &pattern) {
		return fnmatch(pattern.c_str(), path.c_str(), FNM_PATHNAME | FNM_NOESCAPE) == 0;
	});
}

void adjust(Tree &tree, std::vector<Linked> &linked, const Adjustment &how)
{
	if (how.bootable) {
		link(linked);
		bootable(tree, how.label != nullptr);
	}
	if (how.label)
		relabel(tree, how.label);
	for (Node &node : tree.nodes) {
		if (how.by_root)
			node.uid = node.gid = 0;
		if (how.clamped && node.mtime >= how.latest) {
			node.mtime = how.latest;
			node.mtime_nsec = 0;
		}
	}
}

} // namespace cfs
