/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The search for one file in an EROFS image (Linux: fs/erofs/erofs_fs.h), as composefs uses the
 * format: no compression, directories in blocks or behind their inode. The kernel can list the same
 * from the mount. That takes an inode, a file and a call or two for each directory on the way, which
 * is most of what a mount would cost more for a large image than for a small one.
 *
 * Nothing is kept but the way down to one directory. All numbers are checked before they are used;
 * each name is counted, so that directories which lie in themselves come to an end.
 */
#include "cfs.h"
#include "le.h"

#include <errno.h>
#include <string.h>

enum {
	SUPER = 1024,
	SUPER_SIZE = 128,
	BLOCK_BITS_MIN = 9,
	BLOCK_BITS_MAX = 16,
	/* Prefixes of xattrs in a table, addresses of 48 bits, inodes elsewhere, and later ones. */
	FEATURES_UNKNOWN = ~0x3f,

	SLOT = 32,
	COMPACT_SIZE = 32,
	EXTENDED_SIZE = 64,
	PLAIN = 0,
	INLINED = 2,
	TYPE = 0170000,
	TYPE_DIRECTORY = 0040000,
	TYPE_FILE = 0100000,

	ENTRY_SIZE = 12,
	ENTRY_FILE = 1,
	ENTRY_DIRECTORY = 2,
	ENTRY_TYPES = 7,
	NAME_LIMIT = 255,

	XATTR_HEADER = 12,
	XATTR_ENTRY = 4,
	XATTR_TRUSTED = 4,

	DEPTH_MAX = 128,
	WINDOW = 4096,
	WINDOW_INODE = 512, /* some inodes, their xattrs, and what small directories hold */
};

static const uint32_t EROFS_MAGIC = 0xe0f5e1e2;

/* What mkcomposefs sets on files with content in the store, behind "trusted.". */
static const char METACOPY[] = "overlay.metacopy";

/* Bytes of the image that were read last. */
struct window {
	uint64_t at;
	size_t length;
	size_t ahead; /* how much is read at once: each byte costs */
	uint8_t *data;
};

struct search {
	cfs_read_at read;
	void *context;
	uint64_t size;
	uint64_t inodes, shared; /* where they begin */
	uint64_t root;
	uint64_t names; /* how many may still come */
	unsigned int bits;
	const char **why;
};

struct inode {
	uint64_t size;
	uint64_t xattrs, tail;
	uint32_t block;
	uint16_t mode, xattr_size;
	uint8_t layout;
};

struct directory {
	uint64_t size;
	uint64_t start, tail; /* tail: of the last block; 0: it lies behind the others */
	uint32_t block;
	uint16_t entry;
	uint16_t path; /* length of its own */
};

/* The way down. A directory and the one below it each have a window of their own for their names. */
struct way {
	struct directory directory[DEPTH_MAX];
	struct window names[2], inodes, shared;
	char path[CFS_PATH_MAX];
};

struct entry {
	uint64_t inode;
	const uint8_t *name;
	size_t length;
};

static int broken(const struct search *search, const char *rule)
{
	*search->why = rule;
	return -EBADMSG;
}

static int unknown(const struct search *search, const char *what)
{
	*search->why = what;
	return -EOPNOTSUPP;
}

static bool holds(const struct window *window, uint64_t at, uint64_t length)
{
	uint64_t into = at - window->at; /* past its end, too, where it begins behind `at` */

	return into <= window->length && length <= window->length - into;
}

/* The bytes are there until the window is asked for others; at most WINDOW_INODE of them. */
static int look(const struct search *search, struct window *window, uint64_t at, size_t length,
		const uint8_t **out)
{
	int error;

	if (at > search->size || length > search->size - at)
		return broken(search, "an address outside the image");
	if (!holds(window, at, length)) {
		size_t wanted = length > window->ahead ? length : window->ahead;

		if (wanted > search->size - at)
			wanted = (size_t)(search->size - at);
		window->length = 0;
		error = search->read(search->context, at, window->data, wanted);
		if (error < 0)
			return error;
		window->at = at;
		window->length = wanted;
	}
	*out = window->data + (at - window->at);
	return 0;
}

static int read_super(struct search *search, struct window *window)
{
	const uint8_t *super;
	int error = look(search, window, SUPER, SUPER_SIZE, &super);

	if (error < 0)
		return error;
	if (le32(super) != EROFS_MAGIC)
		return broken(search, "no EROFS magic");
	search->bits = super[12];
	if (search->bits < BLOCK_BITS_MIN || search->bits > BLOCK_BITS_MAX)
		return broken(search, "blocks of no possible size");
	/* The kernel takes a table of prefixes from this count, whatever the features say. */
	if (le32(super + 80) & (uint32_t)FEATURES_UNKNOWN || super[91] != 0)
		return unknown(search, "EROFS features that composefs images do not have");
	search->root = le16(super + 14);
	search->inodes = (uint64_t)le32(super + 40) << search->bits;
	search->shared = (uint64_t)le32(super + 44) << search->bits;
	if (search->inodes > search->size)
		return broken(search, "an address outside the image");
	return 0;
}

static int read_inode(const struct search *search, struct window *window, uint64_t number,
		      struct inode *out)
{
	uint16_t format, xattrs;
	const uint8_t *raw;
	size_t length;
	uint64_t at;
	int error;

	if (number > (search->size - search->inodes) / SLOT)
		return broken(search, "an address outside the image");
	at = search->inodes + number * SLOT;
	error = look(search, window, at, COMPACT_SIZE, &raw);
	if (error < 0)
		return error;
	format = le16(raw);
	length = format & 1 ? EXTENDED_SIZE : COMPACT_SIZE;
	error = look(search, window, at, length, &raw);
	if (error < 0)
		return error;
	xattrs = le16(raw + 2);
	*out = (struct inode){
		.size = format & 1 ? le64(raw + 8) : le32(raw + 8),
		.xattrs = at + length,
		.block = le32(raw + 16),
		.mode = le16(raw + 4),
		.layout = format >> 1 & 7,
	};
	if (xattrs > (UINT16_MAX - XATTR_HEADER) / XATTR_ENTRY)
		return broken(search, "more xattrs than a file can have");
	if (xattrs)
		out->xattr_size = (uint16_t)(XATTR_HEADER + (xattrs - 1) * XATTR_ENTRY);
	out->tail = out->xattrs + out->xattr_size;
	return 0;
}

static int open_directory(const struct search *search, struct window *window, uint64_t number,
			  struct directory *out)
{
	struct inode inode;
	int error = read_inode(search, window, number, &inode);

	if (error < 0)
		return error;
	if ((inode.mode & TYPE) != TYPE_DIRECTORY)
		return broken(search, "a directory's entry that leads to something else");
	if (inode.layout != PLAIN && inode.layout != INLINED)
		return unknown(search, "a directory that is compressed or in chunks");
	if (inode.size > search->size)
		return broken(search, "a directory larger than the image");
	*out = (struct directory){
		.size = inode.size,
		.start = (uint64_t)inode.block << search->bits,
		.tail = inode.layout == INLINED ? inode.tail : 0,
	};
	return 0;
}

/* Where the directory's next block is. */
static int find_block(const struct search *search, const struct directory *directory, uint64_t *at,
		      uint64_t *length)
{
	uint64_t before = (uint64_t)directory->block << search->bits;
	uint64_t block = UINT64_C(1) << search->bits;

	*length = directory->size - before < block ? directory->size - before : block;
	*at = directory->start + before;
	if (directory->tail && before + *length == directory->size) {
		*at = directory->tail;
		if ((*at & (block - 1)) + *length > block)
			return broken(search, "a directory across the end of a block");
	}
	return 0;
}

/* The name of an entry: up to the next one's, or to the block's end or a NUL. */
static int read_name(const struct search *search, struct window *window, uint64_t at,
		     uint64_t length, bool last, struct entry *out)
{
	const uint8_t *end;
	int error;

	if (length > NAME_LIMIT + 1)
		length = NAME_LIMIT + 1;
	error = look(search, window, at, (size_t)length, &out->name);
	if (error < 0)
		return error;
	end = memchr(out->name, '\0', (size_t)length);
	out->length = last && end ? (size_t)(end - out->name) : (size_t)length;
	if (out->length == 0 || out->length > NAME_LIMIT || (end && !last) ||
	    memchr(out->name, '/', out->length))
		return broken(search, "a name that Linux cannot have");
	return 0;
}

static bool is_dots(const struct entry *entry)
{
	return entry->name[0] == '.' &&
	       (entry->length == 1 || (entry->length == 2 && entry->name[1] == '.'));
}

/* 1 and the next entry of that type, but "." and ".."; 0: that was the last. */
static int next_entry(struct search *search, struct way *way, size_t level, uint8_t type,
		      struct entry *out)
{
	struct directory *directory = &way->directory[level];

	while ((uint64_t)directory->block << search->bits < directory->size) {
		struct window *window = &way->names[level % 2];
		uint64_t at, length;
		const uint8_t *raw;
		uint32_t first;
		int error = find_block(search, directory, &at, &length);

		window->ahead = length < WINDOW ? (size_t)length : WINDOW;
		/* Behind its inode, a small directory has been read with it. */
		if (holds(&way->inodes, at, length))
			window = &way->inodes;
		if (!error)
			error = look(search, window, at, ENTRY_SIZE, &raw);
		if (error < 0)
			return error;
		first = le16(raw + 8);
		if (first < ENTRY_SIZE || first > length)
			return broken(search, "a directory whose names begin nowhere");
		for (uint32_t count = first / ENTRY_SIZE; directory->entry < count;) {
			bool last = ++directory->entry == count;
			uint64_t entry = at + (uint64_t)(directory->entry - 1) * ENTRY_SIZE;
			uint64_t start, end;

			if (search->names-- == 0)
				return broken(search, "more names than the image has room for");
			error = look(search, window, entry, last ? ENTRY_SIZE : 2 * ENTRY_SIZE,
				     &raw);
			if (error < 0)
				return error;
			/* Else a file could go unseen, and with it what it would show. */
			if (raw[10] == 0 || raw[10] > ENTRY_TYPES)
				return broken(search, "a name without a type");
			if (raw[10] != type)
				continue;
			out->inode = le64(raw);
			start = le16(raw + 8);
			end = last ? length : le16(raw + ENTRY_SIZE + 8);
			if (start < first || start >= end || end > length)
				return broken(search, "a name outside its block");
			error = read_name(search, window, at + start, end - start, last, out);
			if (error < 0)
				return error;
			if (!is_dots(out))
				return 1;
		}
		directory->block++;
		directory->entry = 0;
	}
	return 0;
}

/* 1: this xattr is the one; `size` is how much of the image it takes. */
static int is_metacopy(const struct search *search, struct window *window, uint64_t at,
		       uint32_t *size)
{
	const uint8_t *raw;
	int error = look(search, window, at, XATTR_ENTRY, &raw);

	if (error < 0)
		return error;
	*size = (uint32_t)XATTR_ENTRY + raw[0] + le16(raw + 2);
	if (raw[0] != sizeof(METACOPY) - 1 || raw[1] != XATTR_TRUSTED)
		return 0;
	error = look(search, window, at, XATTR_ENTRY + sizeof(METACOPY) - 1, &raw);
	if (error < 0)
		return error;
	return memcmp(raw + XATTR_ENTRY, METACOPY, sizeof(METACOPY) - 1) == 0;
}

/* 1: the content lies in the store. */
static int is_in_store(const struct search *search, struct way *way, const struct inode *inode)
{
	uint64_t at = inode->xattrs, end = at + inode->xattr_size;
	const uint8_t *raw;
	uint32_t size;
	int found;

	if (!inode->xattr_size)
		return 0;
	found = look(search, &way->inodes, at, XATTR_HEADER, &raw);
	if (found < 0)
		return found;
	at += XATTR_HEADER;
	if (raw[4] > (end - at) / XATTR_ENTRY)
		return broken(search, "xattrs outside their place");
	for (uint32_t count = raw[4]; count > 0; count--, at += XATTR_ENTRY) {
		found = look(search, &way->inodes, at, XATTR_ENTRY, &raw);
		if (!found)
			found = is_metacopy(search, &way->shared,
					    search->shared + (uint64_t)le32(raw) * XATTR_ENTRY,
					    &size);
		if (found)
			return found;
	}
	while (at < end) {
		found = is_metacopy(search, &way->inodes, at, &size);
		if (found)
			return found;
		at += (size + XATTR_ENTRY - 1) / XATTR_ENTRY * XATTR_ENTRY;
	}
	return 0;
}

/* Puts the entry's name behind that of its directory. */
static int append(struct way *way, const struct directory *directory, const struct entry *entry,
		  uint16_t *length)
{
	size_t start = directory->path;

	if (start + 1 + entry->length >= CFS_PATH_MAX)
		return -ENAMETOOLONG;
	if (start > 0)
		way->path[start++] = '/';
	memcpy(way->path + start, entry->name, entry->length);
	*length = (uint16_t)(start + entry->length);
	way->path[*length] = '\0';
	return 0;
}

/* The file in this directory. 0: there is none, or a large one, which `path` has then. */
static int find_file(struct search *search, struct way *way, size_t level, char *path)
{
	struct directory *directory = &way->directory[level];
	struct entry entry;
	int found;

	while ((found = next_entry(search, way, level, ENTRY_FILE, &entry)) > 0) {
		struct inode inode;
		uint16_t length;

		/* Before the inode may take the window that the name is in. */
		found = append(way, directory, &entry, &length);
		if (!found)
			found = read_inode(search, &way->inodes, entry.inode, &inode);
		if (found < 0)
			return found;
		if ((inode.mode & TYPE) != TYPE_FILE)
			return broken(search, "a file's entry that leads to something else");
		found = is_in_store(search, way, &inode);
		if (found > 0 && (inode.size <= CFS_CANARY_LARGE || path[0] == '\0'))
			memcpy(path, way->path, (size_t)length + 1);
		if (found < 0 || (found > 0 && inode.size <= CFS_CANARY_LARGE))
			return found;
	}
	return found;
}

/* Looks into all directories of one level. 0: no file; `reached`: there are such directories. */
static int find_at(struct search *search, struct way *way, size_t depth, char *path, bool *reached)
{
	size_t level = 0;
	int found;

	*reached = false;
	search->names = search->size / ENTRY_SIZE;
	found = open_directory(search, &way->inodes, search->root, &way->directory[0]);
	while (found >= 0) {
		struct directory *directory = &way->directory[level];
		struct entry entry;
		uint16_t length = 0;

		if (level == depth) {
			*reached = true;
			found = find_file(search, way, level, path);
			if (found)
				return found;
		} else {
			found = next_entry(search, way, level, ENTRY_DIRECTORY, &entry);
		}
		if (found < 0)
			return found;
		if (found == 0) {
			if (level-- == 0)
				return 0;
			continue;
		}
		found = append(way, directory, &entry, &length);
		if (!found)
			found = open_directory(search, &way->inodes, entry.inode, directory + 1);
		way->directory[++level].path = length;
	}
	return found;
}

int cfs_canary_find(cfs_read_at read, void *context, uint64_t size, char path[CFS_PATH_MAX],
		    const char **why)
{
	uint8_t names[2][WINDOW], inodes[WINDOW_INODE], shared[WINDOW_INODE];
	struct search search = { .read = read, .context = context, .size = size, .why = why };
	struct way way;
	int found;

	*why = NULL;
	path[0] = '\0';
	way.names[0] = (struct window){ .data = names[0] };
	way.names[1] = (struct window){ .data = names[1] };
	way.inodes = (struct window){ .data = inodes, .ahead = WINDOW_INODE };
	way.shared = (struct window){ .data = shared, .ahead = WINDOW_INODE };
	found = read_super(&search, &way.inodes);
	for (size_t depth = 0; found == 0; depth++) {
		bool reached;

		if (depth == DEPTH_MAX && path[0] == '\0')
			return unknown(&search, "directories that are nested more than 127 deep");
		reached = false;
		if (depth < DEPTH_MAX)
			found = find_at(&search, &way, depth, path, &reached);
		if (found == 0 && !reached)
			return path[0] != '\0';
	}
	return found;
}
