/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "scan.h"

#include "buffer.h"
#include "format.h"
#include "measure.h"
#include "verity.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace cfs
{

namespace
{

/* A file of this size is hashed by all threads at once. */
constexpr uint64_t LARGE = uint64_t{ 8 } << 20;
/* And so many of them are kept open until then. */
constexpr unsigned LARGE_LIMIT = 64;
/* How many files a thread takes at a time. */
constexpr size_t BATCH = 64;
/* What the kernel has at most: XATTR_LIST_MAX, XATTR_SIZE_MAX. */
constexpr size_t XATTRS_MAX = 65536;
constexpr char CHANGED[] = "it changed while it was read";
constexpr int OPEN = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

struct Close {
	void operator()(DIR *directory) const
	{
		closedir(directory);
	}
};

struct Entry {
	std::string name;
	bool is_regular; /* so it is opened for reading at once */
};

/* Some files of a directory; none: it has to be listed. */
struct Batch {
	Node *directory;
	std::string path; /* with a / before each name; "" is the root */
	std::vector<Entry> entries;
};

struct Found {
	std::string_view name;
	Node node;
	struct stat status;
	std::unique_ptr<Descriptor> large; /* what is not hashed yet */
	Stored copy;			   /* with a digest, or none */
};

struct Large {
	Node *node;
	std::string path;
	struct stat status;
	std::unique_ptr<Descriptor> fd;
};

bool same(const struct stat &a, const struct stat &b)
{
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_mode == b.st_mode &&
	       a.st_size == b.st_size && a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
	       a.st_mtim.tv_nsec == b.st_mtim.tv_nsec && a.st_ctim.tv_sec == b.st_ctim.tv_sec &&
	       a.st_ctim.tv_nsec == b.st_ctim.tv_nsec;
}

/* Beneath the directory, by no link. */
int open_below(int directory, const std::string &path)
{
	struct open_how how = {};

	how.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
	return static_cast<int>(syscall(SYS_openat2, directory,
					path.empty() ? "." : path.c_str() + 1, &how, sizeof(how)));
}

/* A path that leads to the file itself, whatever it is. */
std::string place_of(int fd)
{
	return "/proc/self/fd/" + std::to_string(fd);
}

void describe(const struct stat &status, Node &node)
{
	node.mode = static_cast<uint16_t>(status.st_mode);
	node.uid = status.st_uid;
	node.gid = status.st_gid;
	node.mtime = status.st_mtim.tv_sec;
	node.mtime_nsec = static_cast<uint32_t>(status.st_mtim.tv_nsec);
	node.size = static_cast<uint64_t>(status.st_size);
	if (node.is(S_IFCHR) || node.is(S_IFBLK))
		node.rdev = static_cast<uint32_t>(status.st_rdev);
}

/* What one thread needs. */
class Worker {
    public:
	/* `large`: how many more files may be left to all threads. */
	Worker(int directory, const Adjustment &how, std::atomic<unsigned> &large,
	       const Target *target, Pool &pool)
		: directory_(directory), how_(how), large_(large), target_(target), pool_(pool)
	{
	}

	void list(const Batch &batch);
	void read(const Batch &batch);
	void xattrs(int fd, bool by_path, Node &node);

	Arena arena;
	std::vector<Entry> files; /* that were listed */
	std::vector<Found> found;

    private:
	[[noreturn]] void fail(int error) const
	{
		throw Unreadable(path_, error);
	}
	[[noreturn]] void changed() const
	{
		throw Unreadable(path_, 0, CHANGED);
	}
	void one(int directory, const Entry &entry, const Node &parent);
	void link(int fd, Node &node);
	void content(int fd, Found &file);
	uint64_t read_some(int fd, uint64_t size);
	bool leave();

	int directory_;
	const Adjustment &how_;
	std::atomic<unsigned> &large_;
	const Target *target_;
	Pool &pool_;
	std::string path_;
	Verity verity_{ how_.algorithm };
	std::vector<uint8_t> buffer_ = std::vector<uint8_t>(PIECE);
	std::vector<char> names_ = std::vector<char>(XATTRS_MAX);
	std::vector<char> value_ = std::vector<char>(XATTRS_MAX);
};

void Worker::list(const Batch &batch)
{
	Descriptor fd(open_below(directory_, batch.path));
	std::unique_ptr<DIR, Close> stream(fd.get() < 0 ? nullptr : fdopendir(fd.get()));

	path_ = batch.path;
	if (!stream)
		fail(errno);
	fd.take();
	files.clear();
	while (!pool_.stop) {
		const struct dirent *entry;

		errno = 0;
		entry = readdir(stream.get());
		if (!entry && errno)
			fail(errno);
		if (!entry)
			break;
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    !how_.excludes(batch.path + '/' + entry->d_name))
			files.push_back({ entry->d_name, entry->d_type == DT_REG });
	}
}

void Worker::read(const Batch &batch)
{
	Descriptor fd(open_below(directory_, batch.path));

	path_ = batch.path;
	if (fd.get() < 0)
		fail(errno);
	found.clear();
	for (const Entry &entry : batch.entries) {
		if (pool_.stop)
			return;
		path_.resize(batch.path.size());
		path_ += '/';
		path_ += entry.name;
		one(fd.get(), entry, *batch.directory);
		pool_.files++;
	}
}

void Worker::one(int directory, const Entry &entry, const Node &parent)
{
	Descriptor fd(openat(directory, entry.name.c_str(),
			     OPEN | (entry.is_regular ? O_RDONLY : O_PATH)));
	Found file = {};
	Node &node = file.node;

	if (fd.get() < 0 || fstat(fd.get(), &file.status) != 0)
		fail(errno);
	if (entry.is_regular && !S_ISREG(file.status.st_mode))
		changed();
	describe(file.status, node);
	node.depth = parent.depth + 1;
	file.name = arena.join({ entry.name });
	xattrs(fd.get(), !entry.is_regular, node);
	if (node.is(S_IFLNK)) {
		link(fd.get(), node);
	} else if (node.is(S_IFREG) && node.size) {
		auto readable = std::make_unique<Descriptor>(
			entry.is_regular ? fd.take() :
					   open(place_of(fd.get()).c_str(),
						(OPEN & ~O_NOFOLLOW) | O_RDONLY));

		if (readable->get() < 0)
			fail(errno);
		if (node.size >= LARGE && leave())
			file.large = std::move(readable);
		else
			content(readable->get(), file);
	}
	if (const char *rule = node.fault())
		throw Unreadable(path_, 0, rule);
	found.push_back(std::move(file));
}

void Worker::xattrs(int fd, bool by_path, Node &node)
{
	std::string place = by_path ? place_of(fd) : std::string();
	ssize_t length = by_path ? listxattr(place.c_str(), names_.data(), names_.size()) :
				   flistxattr(fd, names_.data(), names_.size());

	if (length < 0 && errno == EOPNOTSUPP)
		return;
	if (length < 0)
		fail(errno);
	for (const char *name = names_.data(); name < names_.data() + length;
	     name += strlen(name) + 1) {
		ssize_t size =
			by_path ? getxattr(place.c_str(), name, value_.data(), value_.size()) :
				  fgetxattr(fd, name, value_.data(), value_.size());

		if (size < 0 && errno == ENODATA)
			changed();
		if (size < 0)
			fail(errno);
		if (size > UINT16_MAX)
			throw Unreadable(path_, 0, "more xattrs than a file can have");
		node.xattrs.emplace_back(
			arena.join({ name }),
			arena.join({ { value_.data(), static_cast<size_t>(size) } }));
	}
}

void Worker::link(int fd, Node &node)
{
	char target[LINK_LIMIT + 1];
	ssize_t length = readlinkat(fd, "", target, sizeof(target));

	if (length < 0)
		fail(errno);
	if (length == 0 || static_cast<size_t>(length) > LINK_LIMIT)
		throw Unreadable(path_, 0, "a link of no possible length");
	node.target = arena.join({ { target, static_cast<size_t>(length) } });
	node.size = node.target.size();
}

/* Into the buffer: so much, or until it is full or the file has ended. */
uint64_t Worker::read_some(int fd, uint64_t size)
{
	size_t used = 0, wanted = std::min<uint64_t>(buffer_.size(), size);

	while (used < wanted) {
		ssize_t got = ::read(fd, buffer_.data() + used, wanted - used);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			fail(errno);
		if (got == 0)
			break;
		used += static_cast<size_t>(got);
	}
	return used;
}

/* May it be hashed later, by all threads? */
bool Worker::leave()
{
	unsigned left = large_;

	while (left && !large_.compare_exchange_weak(left, left - 1))
		;
	return left != 0;
}

/* Then it has to be what it was before. */
void Worker::content(int fd, Found &file)
{
	Node &node = file.node;
	NewFile copy;
	struct stat after;
	uint64_t left = node.size;
	bool copied = target_ && node.size > SMALL, shared = false;

	if (copied) {
		if (int error = target_->files.make(copy))
			throw Unreadable(path_, error, COPY);
		shared = target_->files.share(fd, copy);
	}
	while (left && !pool_.stop) {
		/* Of what it shares: what was taken, whatever the file becomes meanwhile. */
		uint64_t got = read_some(shared ? copy.fd() : fd, left);

		if (got == 0)
			changed();
		if (copied && !shared) {
			if (int error = copy.put(buffer_.data(), got, node.size - left))
				throw Unreadable(path_, error, COPY);
		}
		left -= got;
		pool_.bytes += got;
		if (node.size <= SMALL)
			node.content = arena.join(
				{ { reinterpret_cast<const char *>(buffer_.data()), got } });
		else
			verity_.add(buffer_.data(), got);
	}
	if (fstat(fd, &after) != 0)
		fail(errno);
	if (!same(file.status, after))
		changed();
	if (node.size <= SMALL)
		return;
	std::string digest = verity_.finish();

	set_digest(digest, arena, node);
	if (copied)
		file.copy = { path_, std::move(copy), std::move(digest), node.size };
}

class Scanner {
    public:
	Scanner(int directory, unsigned threads, const Adjustment &how, const Progress &progress,
		const Target *target)
		: directory_(directory), threads_(std::max(threads, 1U)), how_(how),
		  progress_(progress), target_(target),
		  large_left_(threads > 1 && !target ? LARGE_LIMIT : 0)
	{
		/* All threads together have half of the copies at most. */
		if (target)
			batch_ = std::clamp<size_t>(target->limit / (2 * threads_), 1, BATCH);
	}

	Tree scan()
	{
		root();
		pool_.run(
			threads_,
			[this](uint64_t files, uint64_t bytes) {
				copies_.hand_over(false);
				return progress_(files, bytes);
			},
			[this] { work(); });
		if (pool_.stop) /* progress wanted that */
			throw Unreadable({}, ECANCELED);
		copies_.hand_over(true);
		measure_large();
		adjust(tree_, linked_, how_);
		return std::move(tree_);
	}

    private:
	void root()
	{
		Worker worker(directory_, how_, large_left_, target_, pool_);
		Descriptor fd(open_below(directory_, {}));
		struct stat status;
		Node node;

		if (fd.get() < 0 || fstat(fd.get(), &status) != 0)
			throw Unreadable({}, errno);
		describe(status, node);
		worker.xattrs(fd.get(), false, node);
		if (const char *rule = node.fault())
			throw Unreadable({}, 0, rule);
		todo_.push_back({ tree_.add(nullptr, {}, std::move(node)), {}, {} });
		tree_.more.push_back(std::move(worker.arena));
	}

	void work()
	{
		Worker worker(directory_, how_, large_left_, target_, pool_);
		Batch batch;

		while (take(batch)) {
			if (batch.entries.empty()) {
				worker.list(batch);
				pool_.wake([&] { share(batch, worker.files); });
			} else {
				worker.read(batch);
				pool_.wake([&] { keep(batch, worker.found); });
			}
		}
		pool_.wake([&] { tree_.more.push_back(std::move(worker.arena)); });
	}

	/* The last ones first, so that there are never many. False: that was all. */
	bool take(Batch &batch)
	{
		bool taken = false;
		bool on = pool_.wait([&] {
			if (todo_.empty())
				return busy_ == 0;
			if (!copies_.have_room((busy_ + 1) * batch_))
				return false;
			batch = std::move(todo_.back());
			todo_.pop_back();
			busy_++;
			return taken = true;
		});

		return on && taken;
	}

	void share(const Batch &listed, std::vector<Entry> &files)
	{
		for (size_t i = 0; i < files.size(); i += batch_) {
			Batch batch = { listed.directory, listed.path, {} };

			for (size_t j = i; j < std::min(i + batch_, files.size()); j++)
				batch.entries.push_back(std::move(files[j]));
			todo_.push_back(std::move(batch));
		}
		busy_--;
	}

	void keep(const Batch &batch, std::vector<Found> &found)
	{
		for (Found &file : found) {
			std::string path = batch.path + '/' + std::string(file.name);
			Node *node = tree_.add(batch.directory, file.name, std::move(file.node));

			if (!node) /* a directory that was written to gave it twice */
				throw Unreadable(path, 0, CHANGED);
			if (how_.bootable && !node->names && file.status.st_nlink > 1)
				linked_.push_back({ file.status.st_dev, file.status.st_ino, path,
						    batch.directory, file.name });
			if (file.large)
				large_.push_back({ node, std::move(path), file.status,
						   std::move(file.large) });
			else if (node->is(S_IFDIR))
				todo_.push_back({ node, std::move(path), {} });
			if (!file.copy.digest.empty())
				copies_.put(std::move(file.copy));
		}
		found.clear();
		busy_--;
	}

	void measure_large()
	{
		std::vector<File> files;
		std::vector<Measured> found;
		uint64_t count = pool_.files, bytes = pool_.bytes;

		for (const Large &large : large_)
			files.push_back({ {}, how_.algorithm, large.fd->get() });
		found = measure(directory_, files, threads_, false,
				[this, count, bytes](uint64_t more_files, uint64_t more_bytes) {
					return progress_(count + more_files, bytes + more_bytes);
				});
		for (size_t i = 0; i < large_.size(); i++) {
			const Large &large = large_[i];
			struct stat status;

			if (found[i].error == ENODATA) /* it was cut */
				throw Unreadable(large.path, 0, CHANGED);
			if (found[i].error)
				throw Unreadable(large.path, found[i].error);
			if (fstat(large.fd->get(), &status) != 0)
				throw Unreadable(large.path, errno);
			if (!found[i].regular || found[i].digest.empty() ||
			    !same(status, large.status))
				throw Unreadable(large.path, 0, CHANGED);
			set_digest(found[i].digest, tree_.arena, *large.node);
		}
	}

	int directory_;
	unsigned threads_;
	const Adjustment &how_;
	const Progress &progress_;
	const Target *target_;
	size_t batch_ = BATCH;
	std::atomic<unsigned> large_left_;
	Pool pool_;
	/* The pool's lock is on these. */
	Tree tree_;
	std::vector<Batch> todo_;
	std::vector<Large> large_;
	std::vector<Linked> linked_;
	Copies copies_{ pool_, target_ };
	size_t busy_ = 0;
};

} // namespace

void set_digest(const std::string &digest, Arena &arena, Node &node)
{
	static constexpr char digits[] = "0123456789abcdef";
	char text[2 * LONG_DIGEST_SIZE + 1], *next = text;
	char *raw = node.add_digest(arena, digest.size());

	for (size_t i = 0; i < digest.size(); i++) {
		auto byte = static_cast<uint8_t>(digest[i]);

		raw[i] = digest[i];
		*next++ = digits[byte >> 4];
		*next++ = digits[byte & 15];
		if (i == 0)
			*next++ = '/';
	}
	node.target = arena.join({ { text, static_cast<size_t>(next - text) } });
}

Tree scan_tree(int directory, unsigned threads, const Adjustment &how, const Progress &progress,
	       const Target *target)
{
	return Scanner(directory, threads, how, progress, target).scan();
}

} // namespace cfs
