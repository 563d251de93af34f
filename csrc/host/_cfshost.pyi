# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The engine of the host's tools, in C++ (csrc/host). It is in no initrd."""

from collections.abc import Callable, Sequence
from typing import Protocol

class Malformed(ValueError):
    """An image that breaks a rule: (the rule, at which byte)."""

class Unfit(ValueError):
    """What no image can be made of: (the rule, in which line of the source; 0: in none)."""

class Unreadable(ValueError):
    """What of a directory no image can be made of: (path below it, errno or 0, the rule, or of what
    the errno is; "" where it is the file itself)."""

class BadLayer(ValueError):
    """What of layers no image can be made of: (number of the layer, path in it or b"", errno or 0,
    the rule, or of what the errno is; without both, at which byte)."""

class BadArchive(ValueError):
    """An archive that breaks a rule."""

class OtherDigest(ValueError):
    """A layer whose content is not what was said: (its number, the raw digest that it has)."""

class Image:
    """A composefs image in memory. Malformed: its headers are not those of one."""

    def __init__(self, data: bytes) -> None: ...
    @property
    def version(self) -> int:
        """The format that composefs gave it, as its header says."""

    def dump(self, write: Callable[[bytes], object]) -> None:
        """Hands the lines of composefs-dump(5) to `write`, in pieces. Malformed may come late."""

    def list(self, path: bytes | str, write: Callable[[bytes], object]) -> bool:
        """A line for each file at and below `path` ("" for all). False: there is none."""

    def files(self, directory: bytes | str) -> Sequence[tuple[bytes, bytes, bytes]]:
        """The regular files in a directory: (name, the content that the image itself has, where it
        lies else below the directory of objects)."""

def objects(images: Sequence[Image]) -> tuple[bytes, int]:
    """Where all content lies below the directory of objects, a line each, sorted; how many."""

def missing(
    images: Sequence[Image], directory: int, checked: Checked | None = None
) -> tuple[bytes, int, int]:
    """Those of them that are no regular files there, how many, and how many there should be.
    `checked`: what was read there just now is not looked for again."""

Measured = tuple[int, bool, bool, bytes, bytes]

def measure(
    directory: int,
    files: Sequence[tuple[bytes | str, int]],
    threads: int,
    follow: bool,
    progress: Callable[[int, int], object],
) -> list[Measured]:
    """The fs-verity digest of each (name below the directory, algorithm), by `threads` threads.

    Of each: errno or 0; is it a regular file; has it fs-verity; the digest of what was read; what
    the kernel measured. `progress(files, bytes)` is called ten times a second, from this thread,
    and so are handlers of signals: what they raise ends it.
    """

class Checked:
    """The objects of a store. `wrong`: (path below the store, digits, Measured) of each that is not
    what its name says, or not sealed where that is asked for. `strange`: names that are none."""

    @property
    def objects(self) -> int: ...
    @property
    def sealed(self) -> int: ...
    @property
    def wrong(self) -> list[tuple[str, str, Measured]]: ...
    @property
    def strange(self) -> list[str]: ...

def check(
    store: int,
    objects: str,
    ostree: bool,
    images: Sequence[str],
    sealed: bool,
    threads: int,
    progress: Callable[[int, int], object],
) -> Checked:
    """All objects: directories of them lie below `objects` ("objects/" or nothing) of the store;
    `images` are names of those in images/. In an ostree repository names are no digests.
    `progress`: as for measure(). OSError: a directory cannot be read, with its path below the
    store."""

Copied = tuple[int, bool, bool, int, str, bytes, int]

def copy(
    target: int,
    files: Sequence[tuple[bytes | str, int]],
    threads: int,
    follow: bool,
    named: bool,
    prefix: str,
    progress: Callable[[int, int], object],
) -> list[Copied]:
    """Copies each (path, algorithm) into a new file without a name in the file system of `target`.

    Of each: errno or 0; is that the fault of the copy; is the source a regular file; a descriptor
    of the copy, the caller's to close; the digest of what is in it; its size. The copy has a name
    (`.PREFIX.NUMBER.tmp` in `target`) only with `named`, or where the file system has no O_TMPFILE.
    After a fault the rest is not copied (-1, no digest). `progress`: as for measure().
    """

class Unnamed(Protocol):
    """A file: open, or with the name `temporary` in the directory where it gets `name`."""

    fd: int
    temporary: str
    name: str

def give_names(directory: int, copies: Sequence[Unnamed], threads: int) -> list[int]:
    """Gives each copy its name in `directory`. Of each: errno or 0; EEXIST: something has that
    name. After another error the rest gets none (ECANCELED). Handlers of signals are called: what
    they raise ends it. Descriptors and temporary names are gone then, whatever comes: `fd` is -1,
    and `temporary` empty."""

def sync(directory: int) -> None:
    """Waits until all of its file system is on the disk. OSError: it does not get there."""

class Live:
    """A set of digests, raw bytes of both algorithms: the objects that are needed."""

    def __init__(self) -> None: ...
    def add_image(self, image: Image) -> None:
        """All objects of an image. Malformed."""

    def add(self, digests: bytes, size: int) -> None:
        """Digests of `size` bytes, one behind the other. ValueError: they do not go up."""

    def __contains__(self, digest: bytes) -> bool: ...
    def __len__(self) -> int: ...

def scan(
    directory: int, prefix: str, live: Live
) -> tuple[list[tuple[str, int, bool]], list[str], int]:
    """objects/<prefix>: (name, size, does it begin as an image) of each object that is not live;
    strange names, hidden ones left out; how many are live. OSError."""

def make_image(text: bytes, least: int, most: int) -> bytes:
    """The image of a composefs-dump(5), in the lowest of these versions that fits: byte for byte
    what mkcomposefs 1.0.8 makes for 0 and 1, and composefs-rs for 2. The two of (2, 2) go with no
    other. ValueError: no such versions. Unfit."""

class Adjustment:
    """What the files of a directory, or of layers, are changed to: as composefs-rs has a tree that
    boots; all root's; no later than `latest`, seconds; `excluded`, glob(7) of paths with a slash
    before them, are left out with what is in them; `label(path, mode)` gives security.selinux, or
    nothing. Contents are known by fs-verity digests of this algorithm."""

    def __init__(
        self,
        bootable: bool = False,
        by_root: bool = False,
        latest: int | None = None,
        excluded: Sequence[bytes | str] = (),
        label: Callable[[bytes, int], bytes] | None = None,
        algorithm: int = 1,
    ) -> None: ...

def image_of_tree(
    directory: int,
    threads: int,
    least: int,
    most: int,
    how: Adjustment,
    progress: Callable[[int, int], object],
) -> bytes:
    """The same of a directory, as mkcomposefs makes it. `progress`: as for measure(), while files
    are hashed; before that with zeros. Unreadable. Unfit."""

Stored = tuple[bytes, int, str, bytes, int]

def store_tree(
    directory: int,
    target: int,
    threads: int,
    formats: Sequence[tuple[int, int]],
    how: Adjustment,
    named: bool,
    prefix: str,
    limit: int,
    progress: Callable[[int, int], object],
    take: Callable[[list[Stored]], object],
) -> list[bytes]:
    """The same in each of these formats, (least, most); and each content that is not in the image
    is copied, as by copy().

    `take(copies)`, from this thread, when there are `limit` of them, or 16 MiB, and in the end
    before the image is made. Of each: path below the directory; a descriptor, the caller's to
    close; the name, if it had to have one, the caller's to take away; digest; size. ValueError: the
    limit is 0."""

Part = tuple[int, bytes, int | None, int, bytes]
"""Of a file: descriptor; what has been read of it already; where it begins and its size, or None
and all that comes; the raw digest of SHA-256 or SHA-512 that it has to have, or nothing."""

def members(archive: int) -> list[tuple[bytes, int, int, bool]]:
    """(path, offset, size, is it a regular file) of each member of a tar file. BadArchive,
    OSError."""

def image_of_layers(
    layers: Sequence[Part],
    threads: int,
    least: int,
    most: int,
    how: Adjustment,
    progress: Callable[[int, int], object],
    memory: int = ...,
) -> bytes:
    """The same of the directory that layers unpack to: tar files that are open, plain or as gzip or
    zstd makes them, the lowest one first. `memory`: of all entries together. BadLayer: they need
    more, too. OtherDigest. Unfit."""

def store_layers(
    layers: Sequence[Part],
    target: int,
    threads: int,
    formats: Sequence[tuple[int, int]],
    how: Adjustment,
    named: bool,
    prefix: str,
    limit: int,
    progress: Callable[[int, int], object],
    take: Callable[[list[Stored]], object],
) -> list[bytes]:
    """The same, and copies, as of store_tree(): of all contents, whatever becomes of the files."""

def verity_digest(data: bytes, algorithm: int) -> bytes:
    """The fs-verity digest of data in memory. ValueError: an unknown algorithm."""
