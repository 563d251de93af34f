/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The C core of pyinit: parsers and system calls, no policy.
 *
 * Every function that can fail returns 0 (or a value >= 0) or -errno; none prints, exits, keeps
 * state, or knows a path but the kernel's own interfaces below /proc and /dev. A file descriptor
 * returned is close-on-exec and owned by the caller. Parsers are pure: bytes in, values out. Words
 * are the caller's task; where errno is too poor for that, a function gives the broken rule (`why`)
 * or the kernel's own message (`log`).
 */
#ifndef CFS_H
#define CFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a parser gets at a file: fills `buffer` with exactly `length` bytes from `offset`, or returns
 * -errno. It asks only for ranges that lie inside the size it was given. */
typedef int (*cfs_read_at)(void *context, uint64_t offset, void *buffer, size_t length);

/* ---- digest.c: the text of an fs-verity digest ---------------------------------------------- */

enum {
	CFS_SHA256 = 1, /* FS_VERITY_HASH_ALG_SHA256 of <linux/fsverity.h> */
	CFS_SHA512 = 2, /* FS_VERITY_HASH_ALG_SHA512 */
	CFS_DIGEST_MAX = 64,
	CFS_DIGEST_HEX_MAX = 2 * CFS_DIGEST_MAX + 1,
};

struct cfs_digest {
	uint16_t algorithm; /* CFS_SHA256 or CFS_SHA512 */
	uint16_t size;      /* bytes in use: 32 or 64, never 0 */
	uint8_t bytes[CFS_DIGEST_MAX];
};

/* 64 or 128 lower-case hex digits, alone or after `sha256:`, `sha512:`, `fsverity-sha256-12:` or
 * `fsverity-sha512-12:` (12: blocks of 2^12 bytes). `text` need not end with NUL.
 * -ENODATA: empty; -EPROTONOSUPPORT: unknown prefix; -EMSGSIZE: wrong number of digits (for the
 * algorithm named, or neither 64 nor 128); -EILSEQ: a character that is no lower-case hex digit. */
int cfs_digest_parse(const char *text, size_t length, struct cfs_digest *out);

/* Writes the hex digits and a NUL. -EINVAL: no digest of a known algorithm and fitting size. */
int cfs_digest_format(const struct cfs_digest *digest, char out[CFS_DIGEST_HEX_MAX]);

/* Algorithm, size and all bytes. Two values that are not valid digests are never equal. */
bool cfs_digest_equal(const struct cfs_digest *a, const struct cfs_digest *b);

/* ---- sha.c: what is measured into a TPM ------------------------------------------------------ */

enum { /* TPM_ALG_ID of the TPM 2.0 library specification, part 2 */
	CFS_BANK_SHA1 = 4,
	CFS_BANK_SHA256 = 0xb,
	CFS_BANK_SHA384 = 0xc,
	CFS_BANK_SHA512 = 0xd,
};

/* The hash that such a bank is extended with; its size. `data` may be NULL where `size` is 0.
 * -EPROTONOSUPPORT: another algorithm. */
int cfs_sha(uint16_t bank, const uint8_t *data, size_t size, uint8_t out[CFS_DIGEST_MAX]);

struct cfs_sha {
	uint64_t size;
	uint64_t large[8]; /* SHA-384, SHA-512 */
	uint32_t small[8]; /* SHA-1 (five of them), SHA-256 */
	uint8_t pending[128];
	uint8_t algorithm;
	bool asked; /* whether the processor can do it */
};

/* The same in parts: begin gives the digest's size or -EPROTONOSUPPORT, end that size. */
int cfs_sha_begin(struct cfs_sha *state, uint16_t bank);
void cfs_sha_again(struct cfs_sha *state); /* another hash by the same algorithm */
void cfs_sha_add(struct cfs_sha *state, const uint8_t *data, size_t size);
int cfs_sha_end(struct cfs_sha *state, uint8_t out[CFS_DIGEST_MAX]);

/* ---- verity.c: what the kernel measured ----------------------------------------------------- */

/* FS_IOC_MEASURE_VERITY, of ext4, btrfs and f2fs only: elsewhere (FUSE) it may be a program that
 * answers. -ENODATA: no fs-verity on this file; -ENOTTY, -EOPNOTSUPP: not on this
 * file system or kernel; -EPROTONOSUPPORT: an algorithm this program does not know. */
int cfs_verity_measure(int fd, struct cfs_digest *found);

/* FS_IOC_ENABLE_VERITY without salt or signature. -EEXIST: has it already; -ETXTBSY: open for
 * writing somewhere. */
int cfs_verity_enable(int fd, uint16_t algorithm, uint32_t block_size);

/* ---- pe.c, pe_file.c: sections of a UKI ----------------------------------------------------- */

/* ukify with 100 --devicetree-auto makes 111. */
enum { CFS_PE_SECTIONS_MAX = 512 };

struct cfs_pe_section {
	uint8_t name[8]; /* padded with NUL, all 8 bytes count */
	uint32_t virtual_size;
	uint32_t virtual_address;
	uint32_t raw_size;
	uint32_t raw_pointer;
	uint32_t characteristics;
};

struct cfs_pe {
	uint64_t file_size;
	uint16_t machine;
	uint16_t magic; /* 0x10b PE32, 0x20b PE32+ */
	uint32_t file_alignment;
	uint32_t section_alignment;
	uint32_t size_of_image;
	uint32_t size_of_headers;
	uint64_t header_offset;         /* e_lfanew */
	uint64_t checksum_offset;       /* of OptionalHeader.CheckSum */
	uint64_t certificate_directory; /* offset of data directory 4 */
	uint64_t certificate_offset;    /* 0 where there is none */
	uint64_t certificate_size;
	uint64_t section_table;
	uint32_t section_count;
	struct cfs_pe_section sections[CFS_PE_SECTIONS_MAX];
};

/* Reads and checks headers and section table. -EBADMSG: a rule is broken, *why names it.
 * -EFBIG, -EMSGSIZE: file over 2 GiB, under 1 KiB (why is set too). */
int cfs_pe_parse(cfs_read_at read, void *context, uint64_t file_size, struct cfs_pe *out,
		 const char **why);

enum { CFS_PE_BASE = -1 };

/* The one section of that name (at most 8 bytes) in `profile`: CFS_PE_BASE for what precedes the
 * first `.profile`, 0 and up for what follows it. No falling back. Gives the index in sections[].
 * -ENOENT: not there; -EEXIST: there twice; -EINVAL: no name; -EBADMSG with *why: it is there,
 * and 0 < VirtualSize <= SizeOfRawData does not hold. */
int cfs_pe_find(const struct cfs_pe *pe, const char *name, int profile, const char **why);

int cfs_pe_parse_buffer(const void *data, size_t size, struct cfs_pe *out, const char **why);

/* Of a regular file, by pread: the headers and nothing else. -EINVAL: no regular file. */
int cfs_pe_parse_fd(int fd, struct cfs_pe *out, const char **why);

/* The VirtualSize bytes of a section. -EMSGSIZE: more than `capacity`. Returns the length. */
int cfs_pe_section_read_fd(int fd, const struct cfs_pe *pe, uint32_t index, void *buffer,
			   size_t capacity);

/* ---- authenticode.c: a UKI that is read once ------------------------------------------------- */

enum {
	CFS_UKI_CHUNK = 32768,   /* bytes read at once; the headers are within the first */
	CFS_PAYLOAD_MAX = 16384,
};

struct cfs_uki {
	struct cfs_pe pe;
	uint8_t hash[CFS_DIGEST_MAX]; /* Authenticode: what firmware measures when it loads the file */
	uint8_t sections[CFS_PE_SECTIONS_MAX][CFS_DIGEST_MAX]; /* hash of the VirtualSize bytes */
	int payload_size; /* of `.cfsdig` of the profile, else of the base; -ENOENT: neither has it */
	uint8_t payload[CFS_PAYLOAD_MAX];
};

/* Reads each byte but those of the certificates once, in their order, and takes all from that. The
 * hash is that of the whole file only where it has no gaps, so one with gaps is refused; and one
 * with headers over CFS_UKI_CHUNK. Errors as of cfs_pe_parse() and cfs_pe_find(); -EMSGSIZE without
 * *why: a payload that is too large; -EPROTONOSUPPORT: not a bank. */
int cfs_uki_parse(cfs_read_at read, void *context, uint64_t file_size, uint16_t bank, int profile,
		  struct cfs_uki *out, const char **why);

/* ---- eventlog.c: what firmware and stub measured --------------------------------------------- */

enum {
	CFS_LOG_MAX = 16 << 20,
	CFS_LOG_EVENTS_MAX = 64, /* of PCR 11 */
};

struct cfs_log_events {
	uint64_t at; /* where in the log the last event begins that was looked at */
	uint8_t pcr_4[CFS_DIGEST_MAX]; /* as the TPM has it after these events */
	uint8_t pcr_11[CFS_DIGEST_MAX];
	bool has_image; /* and firmware loaded it from somewhere */
	uint8_t image[CFS_DIGEST_MAX]; /* the last application of PCR 4 before PCR 11's first event */
	uint32_t count;
	uint8_t events[CFS_LOG_EVENTS_MAX][CFS_DIGEST_MAX]; /* of PCR 11 */
};

/* The log of the TCG's PC Client Platform Firmware Profile, as far as PCR 4 and 11 of one bank go,
 * little-endian and whole. -EBADMSG: a rule is broken, *why names it; -EPROTONOSUPPORT: not a bank.
 */
int cfs_log_parse(const uint8_t *log, size_t size, uint16_t bank, struct cfs_log_events *out,
		  const char **why);

/* ---- proof.c: is it that file which measured itself? ----------------------------------------- */

/* Do the events of PCR 11 tell of the sections of the UKI's profile, each once, and of no other?
 * 0, or -EBADMSG: *why says what differs; `name` (9 bytes) is the section's, or empty. */
int cfs_proof_sections(const struct cfs_uki *uki, const struct cfs_log_events *log, uint16_t bank,
		       int profile, char name[9], const char **why);

/* ---- confined.c: the same, by a child that may do nothing else ------------------------------- */

enum {
	CFS_WHY_MAX = 128,
	CFS_CONFINED_MAX = 32768, /* bytes of a section at most; a pipe takes as much at once */
};

/* Parses the regular file, finds the section and reads it, as the functions above, in a process
 * with no_new_privs, resource limits and a seccomp filter (pread64 of this fd, write to its pipe,
 * exit_group; killed for all else). `capacity` is cut to CFS_CONFINED_MAX. Returns the length; with
 * -errno, `why` is the rule or empty. -EPROTO: that process was killed, or answered nonsense;
 * -EINVAL: no regular file, no name, or a kernel without seccomp filters. Call it where no other
 * thread waits for all children. */
int cfs_pe_section_read_confined(int fd, const char *name, int profile, void *buffer,
				 size_t capacity, char why[CFS_WHY_MAX]);

struct cfs_uki_proof {
	uint8_t pcr_4[CFS_DIGEST_MAX], pcr_11[CFS_DIGEST_MAX]; /* by the log */
	uint8_t hash[CFS_DIGEST_MAX];                          /* of the UKI */
	uint8_t image[CFS_DIGEST_MAX];                         /* as of struct cfs_log_events */
	uint8_t has_image;
	int32_t payload_size; /* or -ENOENT */
	uint8_t payload[CFS_PAYLOAD_MAX];
	char sections[CFS_WHY_MAX]; /* what differs between PCR 11's events and the file, or empty */
};

/* What is to be compared, of the event log and of the UKI that this profile was booted from: as
 * cfs_log_parse(), cfs_uki_parse() and cfs_proof_sections() give it, by such a process. */
int cfs_uki_prove_confined(int fd, int profile, uint16_t bank, const uint8_t *log, size_t log_size,
			   struct cfs_uki_proof *out, char why[CFS_WHY_MAX]);

/* ---- merkle.c: the fs-verity digest of a file in memory --------------------------------------- */

/* What FS_IOC_MEASURE_VERITY would answer, were `size` bytes sealed with blocks of 4096 and no salt.
 * The kernel vouches for no later read, as it does for a sealed file: the caller sees to it that
 * what was read cannot change.
 * -EPROTONOSUPPORT: an unknown algorithm; -EFBIG: 1 TiB and more. */
int cfs_merkle_digest(cfs_read_at read, void *context, uint64_t size, uint16_t algorithm,
		      struct cfs_digest *out);
int cfs_merkle_digest_fd(int fd, uint16_t algorithm, struct cfs_digest *out);

/* ---- image.c: the first bytes of a composefs image ------------------------------------------ */

/* The composefs header is at 0, the EROFS superblock (128 bytes) at 1024. */
enum { CFS_IMAGE_HEADER_SIZE = 1152 };

struct cfs_image_header {
	bool composefs;             /* the composefs header is there (mkcomposefs writes one) */
	uint32_t composefs_version; /* 0 where it is not */
	bool has_acl;               /* true where unknown */
	uint32_t erofs_magic;
	uint64_t size; /* blocks * block size, of the EROFS superblock */
};

/* -EMSGSIZE: fewer than CFS_IMAGE_HEADER_SIZE bytes; -EBADMSG: no EROFS magic (out is filled);
 * -EPROTONOSUPPORT: a composefs header of an unknown version. */
int cfs_image_header_parse(const void *data, size_t size, struct cfs_image_header *out);
int cfs_image_header_read(int fd, struct cfs_image_header *out);

/* ---- canary.c: a file to be read before an image is a root ----------------------------------- */

enum {
	CFS_PATH_MAX = 4096, /* with the NUL, as in Linux */
	CFS_CANARY_LARGE = 16 << 20,
};

/* The first regular file whose content lies in the store, by the rule of root/canary.py: breadth
 * first, names sorted by their bytes, one over CFS_CANARY_LARGE bytes only where all are. Memory
 * does not grow with the image; each level is gone through again for the next one, and what is nested
 * more than 127 deep is not looked at.
 * Returns 1 with the path, relative; 0: there is none. -EBADMSG: a rule of EROFS is broken, *why
 * names it; -EOPNOTSUPP: *why says which part of EROFS it is, which composefs does not use. */
int cfs_canary_find(cfs_read_at read, void *context, uint64_t size, char path[CFS_PATH_MAX],
		    const char **why);
int cfs_canary_find_fd(int fd, char path[CFS_PATH_MAX], const char **why);

/* ---- store.c: an object store --------------------------------------------------------------- */

enum cfs_layout {
	CFS_LAYOUT_OBJECTS = 1,    /* DIR/ab/cdef... */
	CFS_LAYOUT_REPOSITORY = 2, /* DIR/objects/ab/cdef..., DIR/images/<hex>: composefs-rs */
	CFS_LAYOUT_OSTREE = 3,     /* DIR/objects/ab/cdef....file */
};

enum { CFS_IMAGE_NAME_MAX = 160 };

struct cfs_store {
	int root;
	int objects;
	enum cfs_layout layout;
};

/* -ENOENT, -ENOTDIR, -ELOOP, ... of the path itself. Close both fds. */
int cfs_store_open(int dir_fd, const char *path, struct cfs_store *out);

/* Opens the image under the names that the layout gives its digest, and no other, beneath the
 * store (openat2: RESOLVE_BENEATH, no magic links); a regular file, or refused without blocking.
 * Returns the fd; `name` says, relative to the store, what was opened or refused.
 * -ENOENT: no such name; -EINVAL: no regular file; -EXDEV: leads out of the store;
 * -ELOOP: link loop; -EBADF: the name is there, as a dangling link. */
int cfs_store_open_image(const struct cfs_store *store, const struct cfs_digest *digest,
			 char name[CFS_IMAGE_NAME_MAX]);

/* An image outside the store: a regular file, opened without blocking. */
int cfs_image_open(int dir_fd, const char *path);

/* ---- memory.c ------------------------------------------------------------------------------- */

/* A copy of the file in memory that nobody can change any more: a memfd, sealed. The kernel's limit
 * is the memory. Reading begins at 0. */
int cfs_memory_copy(int fd);

/* ---- state.c: what lies on the root file system --------------------------------------------- */

/* openat2 that stays beneath dir_fd, in its mount, and follows no link, the last component
 * included. -ELOOP: there is one; -EXDEV: leads out, or into another mount. */
int cfs_open_beneath(int dir_fd, const char *path, int flags);

/* Takes from a file or an empty directory that was just made what its parent gave it: inode flags
 * (casefold, append-only, no copy on write, ...) and the project. `fd` is open for reading.
 * -EKEYREJECTED: it is encrypted, which cannot be taken away; -EPERM: a flag stayed. */
int cfs_inherited_clear(int fd);

/* Lets an ext4 or btrfs, mounted writable, fill its device of `size` bytes. `fd` is a directory of
 * it, open for reading. -EOPNOTSUPP: another file system. */
int cfs_filesystem_grow(int fd, uint64_t size);

/* Tells the kernel, by /dev/btrfs-control, that this device node is one of a btrfs on several: it
 * mounts one with those only that it knows. -ENAMETOOLONG; -ENOENT: no btrfs driver. */
int cfs_btrfs_scan(const char *device);

/* syncfs: what was written is on the disk, or -errno of what could not be written (Linux 5.8). */
int cfs_filesystem_sync(int fd);

/* flock(2), exclusive, as long as the description is open. -EAGAIN: another one has it. */
int cfs_file_lock(int fd);

/* ---- namespace.c: where a root is composed unseen ------------------------------------------- */

struct cfs_namespace {
	int mount_ns;
	int root;
	int cwd;
};

/* Moves this (single-threaded) process into a private copy of the mount namespace: what is
 * attached there is seen by nobody, and is gone when the process leaves or dies. Its root may be
 * a directory that is no mount (a chroot). */
int cfs_namespace_enter(struct cfs_namespace *saved);
/* Back, with root and working directory as before. Closes the fds of `saved`. */
int cfs_namespace_leave(struct cfs_namespace *saved);

/* ---- mount.c: file systems by the new mount API --------------------------------------------- */

struct cfs_log { /* the kernel's messages for the last failure, lines joined by "; " */
	char text[512];
};

struct cfs_option {
	const char *key;
	const char *value; /* NULL: a flag */
};

/* Any file system: fsopen, the options in order, create, fsmount with MOUNT_ATTR_* `attributes`.
 * Gives the detached mount's fd. -ENODEV: the kernel has no such file system. */
int cfs_fs_mount(const char *type, const struct cfs_option *options, size_t count,
		 uint64_t attributes, struct cfs_log *log);

/* EROFS, read-only, from the very fd given (file-backed from Linux 6.12), else (-ENOTBLK) over a
 * read-only loop device, which *used_loop says. `prefer_loop`: the loop device first, where there
 * are any; some kernels count a file-backed EROFS as a level of stacking, and allow two.
 * -ENOTBLK: this kernel needs a loop device, and there is none. */
int cfs_erofs_mount(int image_fd, bool noacl, bool prefer_loop, bool *used_loop,
		    struct cfs_log *log);

struct cfs_overlay {
	const char *source;
	int lower;         /* directory of an attached mount */
	int objects;       /* data-only layer; -1: none, and what `upper` has is not trusted */
	bool strict;       /* what `upper` has is not trusted above a data-only layer either */
	int upper;         /* -1: read-only, no upper layer */
	int work;
	/* Other paths of the same two, which mountinfo shows then; NULL: by their descriptors. */
	const char *upper_path;
	const char *work_path;
	bool require_verity;
};

/* metacopy and redirect_dir are always said, verity=require where asked for. `lowerdir+` and
 * `datadir+` where the kernel has them (6.7), else `lowerdir=a::b` (6.5); never an ordinary layer
 * in place of a data-only one.
 *
 * Without a data-only layer nothing in `upper` is followed (redirect_dir=nofollow, metacopy=off),
 * and -EBUSY says that it is the upper or work directory of another overlay already. `strict` is
 * the same with a data-only layer, but for the -EBUSY; Linux 6.12 says -EINVAL to it. */
int cfs_overlay_mount(const struct cfs_overlay *overlay, uint64_t attributes, struct cfs_log *log);

/* move_mount onto a directory */
int cfs_mount_attach(int mount_fd, int directory_fd);
/* open_tree(OPEN_TREE_CLONE): a detached copy */
int cfs_mount_clone(int directory_fd, bool recursive);
/* locked.c: the same, of what is mounted on the directory alone. Nobody in a user namespace can take
 * an attribute of it away. -EINVAL: something is mounted in it; -EPERM: in a chroot; -ENOSPC, -EINVAL:
 * no user namespaces here. */
int cfs_mount_clone_locked(int directory_fd);
/* mount_setattr: MOUNT_ATTR_* to set and to clear */
int cfs_mount_set(int mount_fd, uint64_t set, uint64_t clear, bool recursive);
/* Makes the file system (not the mount) writable or read-only: fspick, reconfigure. */
int cfs_mount_remount(int mount_fd, bool writable, struct cfs_log *log);
int cfs_mount_move(const char *source, const char *target); /* mount(MS_MOVE) */
/* umount2(MNT_DETACH) of the mount that the fd lies on, or of one on top of it */
int cfs_mount_detach(int mount_fd);

/* ---- loop.c --------------------------------------------------------------------------------- */

/* A free loop device over fd; gone with the last user of the fd returned. One that is writable
 * keeps an exclusive flock on the file as long as it is there. -ENODEV: there are no loop devices,
 * or not the node of the free one; -EBUSY: the file is locked, so in use. */
int cfs_loop_attach(int fd, bool writable);

/* ---- module.c, boot.c: what only PID 1 needs ------------------------------------------------- */

/* finit_module; arguments: `parameter=value ...`, which the kernel cuts as its own command line.
 * -EEXIST: loaded already. */
int cfs_module_load(int fd, const char *arguments, bool compressed);

/* Is the root file system of this process an initramfs (ramfs or tmpfs) that may be emptied? */
int cfs_root_is_initramfs(void);
/* Unlinks everything on the initramfs, never crossing into another file system. -EPERM: none. */
int cfs_initramfs_empty(int root_fd);
/* chdir, move the mount over "/", chroot: the new root is the caller's root after it. leave: the
 * old one is a mount, and no initramfs; it and what is mounted in it are detached (pivot_root). */
int cfs_switch_root(const char *new_root, bool leave);
/* For a child of who leaves the initrd: a session of its own, and the first SIGTERM passes. systemd
 * sends one to every process when it leaves an initrd. -EPERM: it leads a process group. */
int cfs_outlive_initrd(void);
/* Closes this descriptor and all above it, by one call (Linux 5.9). */
int cfs_close_from(unsigned int first);
/* How many bytes written to a terminal it has not sent yet. -ENOTTY: no terminal. */
int cfs_terminal_pending(int fd);
int cfs_reboot(unsigned int command); /* LINUX_REBOOT_CMD_* */

/* ---- ask.c ---------------------------------------------------------------------------------- */

/* Connects to the stream socket at a path and sends the question whole; the socket, whose reads
 * answer -EAGAIN as long as there is nothing. Nothing waits, and no signal comes where nobody is at
 * the other end any more: -EPIPE. -ENAMETOOLONG: no path of a socket; -EAGAIN: too many ask. */
int cfs_ask(const char *path, const uint8_t *question, size_t size);

#endif
