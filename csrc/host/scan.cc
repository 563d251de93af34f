/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "scan.h"

#include "format.h"
#include "measure.h"
#include "verity.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace cfs
{

namespace
{

/* What mkcomposefs puts into the image itself. */
constexpr uint64_t SMALL = 64;
constexpr char CHANGED[] = "it changed while it was read";
constexpr unsigned FILES_BETWEEN_PROGRESS = 1024;

struct Close {
	void operator()(DIR *directory) const
	{
		closedir(directory);
	}
};

/* A file whose content is not in the image. */
struct Large {
	Node *node;
	struct stat status;
};

class Scanner {
    public:
	Scanner(int directory, unsigned threads, const Progress &progress)
		: directory_(directory), threads_(threads), progress_(progress)
	{
	}
	Tree scan();

    private:
	struct Level {
		std::unique_ptr<DIR, Close> directory;
		Node *node;
		size_t path_length;
	};

	[[noreturn]] void fail(int error) const
	{
		throw Unreadable(path_, error);
	}
	void enter(int fd, Node &node);
	void file(int directory, const char *name, Node &parent);
	void describe(const struct stat &status, Node &node) const;
	void read_xattrs(const std::string &place, Node &node);
	void read_link(int fd, Node &node);
	void read_small(int fd, Node &node);
	void hash();

	int directory_;
	unsigned threads_;
	const Progress &progress_;
	Tree tree_;
	std::string path_;
	std::vector<Level> levels_;
	std::vector<Large> large_;
	std::vector<File> named_;
	uint64_t count_ = 0;
};

bool same(const struct stat &a, const struct stat &b)
{
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_mode == b.st_mode &&
	       a.st_size == b.st_size && a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
	       a.st_mtim.tv_nsec == b.st_mtim.tv_nsec && a.st_ctim.tv_sec == b.st_ctim.tv_sec &&
	       a.st_ctim.tv_nsec == b.st_ctim.tv_nsec;
}

/* A path that leads to the file itself, whatever it is. */
std::string place_of(int fd)
{
	return "/proc/self/fd/" + std::to_string(fd);
}

void Scanner::describe(const struct stat &status, Node &node) const
{
	node.uid = status.st_uid;
	node.gid = status.st_gid;
	node.mtime = status.st_mtim.tv_sec;
	node.mtime_nsec = static_cast<uint32_t>(status.st_mtim.tv_nsec);
	node.size = static_cast<uint64_t>(status.st_size);
	if (node.is(S_IFCHR) || node.is(S_IFBLK))
		node.rdev = static_cast<uint32_t>(status.st_rdev);
}

void Scanner::read_xattrs(const std::string &place, Node &node)
{
	/* What the kernel has at most: XATTR_LIST_MAX, XATTR_SIZE_MAX. */
	static constexpr size_t most = 65536;
	char names[most], value[most];
	ssize_t length = listxattr(place.c_str(), names, sizeof(names));

	if (length < 0 && errno == EOPNOTSUPP)
		return;
	if (length < 0)
		fail(errno);
	for (const char *name = names; name < names + length; name += strlen(name) + 1) {
		ssize_t size = getxattr(place.c_str(), name, value, sizeof(value));

		if (size < 0)
			throw Unreadable(path_, errno == ENODATA ? 0 : errno,
					 errno == ENODATA ? CHANGED : "");
		if (size > UINT16_MAX)
			throw Unreadable(path_, 0, "more xattrs than a file can have");
		node.xattrs.emplace_back(
			tree_.arena.join({ name }),
			tree_.arena.join({ { value, static_cast<size_t>(size) } }));
	}
}

void Scanner::read_link(int fd, Node &node)
{
	char target[LINK_LIMIT + 1];
	ssize_t length = readlinkat(fd, "", target, sizeof(target));

	if (length < 0)
		fail(errno);
	if (length == 0 || static_cast<size_t>(length) > LINK_LIMIT)
		throw Unreadable(path_, 0, "a payload of more than 4095 bytes");
	node.target = tree_.arena.join({ { target, static_cast<size_t>(length) } });
	node.size = node.target.size();
}

void Scanner::read_small(int fd, Node &node)
{
	Descriptor file(open(place_of(fd).c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
	char content[SMALL + 1];
	size_t used = 0;

	if (file.get() < 0)
		fail(errno);
	while (used < sizeof(content)) {
		ssize_t got = read(file.get(), content + used, sizeof(content) - used);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			fail(errno);
		if (got == 0)
			break;
		used += static_cast<size_t>(got);
	}
	if (used != node.size)
		throw Unreadable(path_, 0, CHANGED);
	node.content = tree_.arena.join({ { content, used } });
}

/* `fd`: for reading the directory, from now on its level's. */
void Scanner::enter(int fd, Node &node)
{
	Descriptor held(fd);
	DIR *directory = fdopendir(held.get());

	if (!directory)
		fail(errno);
	held.take();
	levels_.push_back({ std::unique_ptr<DIR, Close>(directory), &node, path_.size() });
}

void Scanner::file(int directory, const char *name, Node &parent)
{
	Descriptor fd(openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
	struct stat status;
	Node *node;

	if (fd.get() < 0 || fstat(fd.get(), &status) != 0)
		fail(errno);
	node = tree_.add(&parent, tree_.arena.join({ name }),
			 static_cast<uint16_t>(status.st_mode));
	if (!node)
		throw Unreadable(path_, 0, CHANGED);
	describe(status, *node);
	read_xattrs(place_of(fd.get()), *node);
	if (node->is(S_IFLNK))
		read_link(fd.get(), *node);
	else if (node->is(S_IFREG) && node->size > SMALL) {
		large_.push_back({ node, status });
		named_.push_back({ path_.substr(1), SHA256 });
	} else if (node->is(S_IFREG) && node->size) {
		read_small(fd.get(), *node);
	}
	if (const char *rule = node->fault())
		throw Unreadable(path_, 0, rule);
	if (node->is(S_IFDIR)) {
		int inside = openat(fd.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (inside < 0)
			fail(errno);
		enter(inside, *node);
	}
}

/* Then each file has to be what it was before. */
void Scanner::hash()
{
	static constexpr char digits[] = "0123456789abcdef";
	std::vector<Measured> found =
		measure(directory_, named_, threads_, false, progress_);

	for (size_t i = 0; i < large_.size(); i++) {
		Node &node = *large_[i].node;
		struct stat status;
		char text[2 * DIGEST_SIZE + 1], *next = text;

		path_ = '/' + named_[i].name;
		if (found[i].error)
			fail(found[i].error);
		if (fstatat(directory_, named_[i].name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
			fail(errno);
		if (!found[i].regular || found[i].digest.size() != DIGEST_SIZE ||
		    !same(status, large_[i].status))
			throw Unreadable(path_, 0, CHANGED);
		memcpy(tree_.add_digest(node), found[i].digest.data(), DIGEST_SIZE);
		for (size_t at = 0; at < DIGEST_SIZE; at++) {
			auto byte = static_cast<uint8_t>(found[i].digest[at]);

			*next++ = digits[byte >> 4];
			*next++ = digits[byte & 15];
			if (at == 0)
				*next++ = '/';
		}
		node.target = tree_.arena.join({ { text, sizeof(text) } });
	}
}

Tree Scanner::scan()
{
	struct stat status;
	int fd = openat(directory_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		fail(errno);
	{
		Descriptor held(fd);
		Node *root;

		if (fstat(fd, &status) != 0)
			fail(errno);
		root = tree_.add(nullptr, {}, static_cast<uint16_t>(status.st_mode));
		describe(status, *root);
		read_xattrs(place_of(fd), *root);
		if (const char *rule = root->fault())
			throw Unreadable(path_, 0, rule);
		enter(held.take(), *root);
	}
	while (!levels_.empty()) {
		Level &level = levels_.back();
		const struct dirent *entry;

		path_.resize(level.path_length);
		errno = 0;
		entry = readdir(level.directory.get());
		if (!entry && errno)
			fail(errno);
		if (!entry) {
			levels_.pop_back();
			continue;
		}
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (++count_ % FILES_BETWEEN_PROGRESS == 0)
			progress_(0, 0);
		path_ += '/';
		path_ += entry->d_name;
		file(dirfd(level.directory.get()), entry->d_name, *level.node);
	}
	hash();
	return std::move(tree_);
}

} // namespace

Tree scan_tree(int directory, unsigned threads, const Progress &progress)
{
	return Scanner(directory, threads, progress).scan();
}

} // namespace cfs
