# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Seeds for the writer of images: a composefs-dump(5) with everything, then each rule broken."""

from collections.abc import Iterator

ROOT = b"/ 0 40755 2 0 0 0 1700000000.5 - - -"
DIGEST = b"0a" * 32
STORED = b"0a/" + b"0a" * 31
FILE = b"/f 10000 100644 1 0 0 0 1700000000.5 %s - %s" % (STORED, DIGEST)

BROKEN: dict[str, bytes] = {
    "no file": b"",
    "a NUL": ROOT + b"\0",
    "a field that is missing or empty": b"/ 0 40755 2 0 0 0 0.0",
    "a NUL in a name or a path": ROOT + b"\n/a\\x00 0 100644 1 0 0 0 0.0 - - -",
    "a path that is not absolute, or has an empty name, . or .. in it": b"a" + ROOT[1:],
    "a backslash with nothing behind it": ROOT + b"\n/a\\ 0 100644 1 0 0 0 0.0 - - -",
    "an escape without two hex digits": ROOT + b"\n/a\\xg0 0 100644 1 0 0 0 0.0 - - -",
    "an unknown escape": ROOT + b"\n/\\a 0 100644 1 0 0 0 0.0 - - -",
    "a number that is too large": ROOT + b"\n/a 18446744073709551616 100644 1 0 0 0 0.0 - - -",
    "a number that is none": ROOT + b"\n/a -1 100644 1 0 0 0 0.0 - - -",
    "a time with more than 999999999 nanoseconds": b"/ 0 40755 2 0 0 0 0.1000000000 - - -",
    "a mode of no type": ROOT + b"\n/a 0 644 1 0 0 0 0.0 - - -",
    "a hard link that is a directory": ROOT + b"\n/a 0 @40755 1 0 0 0 0.0 / - -",
    "a second root": ROOT + b"\n" + ROOT,
    "a root that is no directory": b"/ 0 100644 1 0 0 0 0.0 - - -",
    "a file before the root": FILE + b"\n" + ROOT,
    "a file whose directory is not there before it": ROOT + b"\n/a" + FILE,
    "a name of more than 255 bytes": ROOT + b"\n/" + b"n" * 255 + FILE[1:],
    "a path that is there twice": ROOT + b"\n" + FILE + b"\n" + FILE,
    "a hard link to no absolute path": ROOT + b"\n/a 0 @100644 1 0 0 0 0.0 - - -",
    "a hard link to what is not there, or is a directory": ROOT
    + b"\n/a 0 @100644 1 0 0 0 0.0 /f - -",
    "a hard link that leads to itself": ROOT
    + b"\n/a 0 @100644 1 0 0 0 0.0 /b - -\n/b 0 @100644 1 0 0 0 0.0 /a - -",
    "a payload of more than 4095 bytes": ROOT
    + b"\n/a 0 120777 1 0 0 0 0.0 " + b"p" * 4096 + b" - -",
    "a symbolic link without a target": ROOT + b"\n/a 0 120777 1 0 0 0 0.0 - - -",
    "content of what is no regular file": ROOT + b"\n/a 1 120777 1 0 0 0 0.0 b c -",
    "content of another size than the file": ROOT + b"\n/a 2 100644 1 0 0 0 0.0 - c -",
    "content of more than 5000 bytes": ROOT
    + b"\n/a 5001 100644 1 0 0 0 0.0 - " + b"c" * 5001 + b" -",
    "a digest of another length than 64 or 128 digits": ROOT + b"\n" + FILE[:-1],
    "a digest with something else than hex digits": ROOT + b"\n" + FILE[:-1] + b"g",
    "more xattrs than a file can have": ROOT + b" user.a=" + b"x" * 33000,
    "an xattr without a =": ROOT + b" user.a",
    "an xattr whose name is empty or over 255 bytes": ROOT + b" =a",
    "an xattr of a kind that images do not have": ROOT + b" lustre.a=b",
    "an xattr of overlayfs whose name is too long when escaped": ROOT
    + b" trusted.overlay." + b"n" * 232 + b"=",
    "an xattr that is there twice": ROOT + b" user.a=b user.b=c user.a=d",
    "a file of more than 8 PiB": ROOT + b"\n/a 9007199254740993 100644 1 0 0 0 0.0 - - -",
    "a payload that leads out of the store": ROOT + b"\n/a 9 100644 1 0 0 0 0.0 ../a - -",
    "a file with content that an xattr makes a whiteout": ROOT
    + b"\n" + FILE + b" trusted.overlay.whiteout=",
}  # fmt: skip
"""Each rule but that of directories in each other, which takes thousands of lines."""


def dump() -> list[bytes]:
    """Whole texts, fields of all kinds in them, and each rule broken."""
    return [*_whole(), *BROKEN.values(), *_more_broken(), *_fields(), *_tails(), of_sha512()]


def of_sha512() -> bytes:
    """A text that mkcomposefs 1.0.8 does not understand: it has a digest of SHA-512."""
    digits = b"0123456789abcdef" * 8
    return ROOT + b"\n/long 70 100644 1 0 0 0 0.0 01/%s - %s" % (digits[2:], digits)


def _file(name: bytes, size: int, more: bytes = b"") -> bytes:
    about = (name, size, 0o100644, STORED, DIGEST, more)
    return b"/%s %d %o 1 0 0 0 1700000000.5 %s - %s%s" % about


def _inline(name: bytes, content: bytes, more: bytes = b"") -> bytes:
    text = b"".join(b"\\x%02x" % byte for byte in content) or b"-"
    return b"/%s %d 100644 1 0 0 0 0.0 - %s -%s" % (name, len(content), text, more)


def _whole() -> Iterator[bytes]:
    label = b" security.selinux=system_u:object_r:bin_t:s0\\x00"
    lines = [
        ROOT + label + b" system.posix_acl_default=a",
        b"/\\\\\\n\\r\\t\\xfF\\xAa 0 40755 1 0 0 0 1.1 - - - user.a=b",
        b"/00 0 40755 1 70000 2 0 1.1 - - - trusted.overlay.opaque=x",
        b"/00/gone 5 20644 1 0 0 0 1.1 - - - user.overlay.whiteout=a",
        _file(b"f", 10000, label + b" system.posix_acl_access=b"),
        _file(b"large", 1 << 41, label),
        b"/again 0 @100644 1 0 0 0 0.0 /f - -",
        b"/after 0 @100644 1 0 0 0 0.0 /again - -",
        b"/block 0 60600 1 0 0 2049 0.0 - - -",
        b"/char 0 20600 70000 0 70000 259 -1.0 - - -",
        b"/empty 0 100644 1 0 0 0 0.0 - - -",
        b"/fifo 4294967296 10600 1 0 0 0 0.0 - - -",
        _inline(b"inline", b"hello\n", b" x=y= user.=a"),
        b"/link 1 120777 1 0 0 0 0.0 a\\x20b - -",
        b"/none 7 100644 1 0 0 0 0.0 - - -",
        b"/same 7 100644 1 0 0 0 1700000000.5 %s - -" % STORED,
        b"/socket 0 140600 1 0 0 0 0.0 - - -",
        b"/z 0 40755 1 0 0 0 1.1 - - - trusted.overlay.overlay.opaque=x",
        b"/z/y 0 40755 1 0 0 0 1.1 - - -",
        b"/z/y/gone 5 20644 1 0 0 0 1.1 - - -",
        b"/z/y/file 5 100644 1 0 0 0 1.1 - - -",
    ]
    yield b"\n".join(lines) + b"\n"
    yield b"\n".join(lines)
    yield ROOT
    yield b"\n".join([ROOT, *(b"/%03d 0 100644 1 0 0 0 0.0 - - -" % i for i in range(500))])
    names = [b"/%03d%s 0 100644 1 0 0 0 0.0 - - -" % (i, b"n" * 200) for i in range(40)]
    yield b"\n".join([ROOT, b"/d 0 40755 1 0 0 0 0.0 - - -", *(b"/d" + name for name in names)])
    deep = [b"/d" * depth + b" 0 40755 1 0 0 0 0.0 - - -" for depth in range(1, 40)]
    yield b"\n".join([ROOT, *deep])
    many = b"".join(b" user.%03d=v" % i for i in range(140))
    yield b"\n".join([ROOT + many, _inline(b"a", b"", many)])


def _more_broken() -> Iterator[bytes]:
    """The same rules in other ways."""
    for path in (b"", b"//", b"/.", b"/a/", b"/a//b", b"/..", b"/f/b", b"/again/b", b"/f/b/c"):
        again = b"/again 0 @100644 1 0 0 0 0.0 /f - -"
        yield b"\n".join([ROOT, FILE, again, path + FILE[2:]])
        yield b"\n".join([ROOT, FILE, b"/again 0 @100644 1 0 0 0 0.0 %s/ - -" % (path or b"/")])
    yield b"\n".join([ROOT, b"/d" + ROOT[1:], b"/a 0 @100644 1 0 0 0 0.0 /d - -"])
    yield b"\n".join([ROOT, b"/a 0 @100644 1 0 0 0 0.0 / - -"])
    yield b"\n".join([ROOT, FILE, b"/f 0 @100644 1 0 0 0 0.0 /f - -"])
    yield b"\n".join([ROOT, b"/a 0 @100644 1 0 0 0 0.0 /\\x00 - -"])
    yield b"\n".join([ROOT, b"/a 0 @100644 1 0 0 0 0.0 /a - -"])
    for payload in (b"/a", b"a/../b", b".", b"a\\nb", b"a//b", b"\\x00", b"\\x2d"):
        yield b"\n".join([ROOT, b"/a 9 100644 1 0 0 0 0.0 %s - -" % payload])
    yield b"\n".join([ROOT, b"/a 9 100644 1 0 0 0 0.0 -"])
    yield b"\n".join([ROOT, b"/a 9 100644 1 0 0 0 0.0 - -"])
    for line in (b"/a 9 120777 1 0 0 0 0.0 b", b"/a 0 120777 1 0 0 0 0.0 b"):
        yield b"\n".join([ROOT, line])
    yield ROOT + b" user.a=b "
    yield ROOT + b"  user.a=b"
    yield ROOT + b" " + b"n" * 256 + b"=b"
    yield ROOT + b" user.a=" + b"\\x00" * 17000
    for escape in (b"\\x", b"\\x1", b"\\x1g", b"\\xg1", b"\\\\", b"\\"):
        yield ROOT + b" user.a=" + escape
    digest = DIGEST[:-2]
    for end in (b"AF", b"0g", b"g0", b"00f", b"f"):
        yield b"\n".join([ROOT, b"/a 9 100644 1 0 0 0 0.0 - - " + digest + end])


def _fields() -> Iterator[bytes]:
    """Each field with each of these."""
    values = (b"", b"-", b"@", b"0", b"-1", b"1x", b"65536", b"4294967295", b"4294967296", b"1.",
              b".1", b"-1.999999999")  # fmt: skip
    for field in range(1, 8):
        parts = FILE.split(b" ")
        for value in values:
            parts[field] = value
            yield ROOT + b"\n" + b" ".join(parts)


def _tails() -> Iterator[bytes]:
    """What stands behind an inode, or has a block of its own."""
    for size in (1, 2048, 2049, 4095, 4096, 4097):
        content = b"c" * size
        yield b"\n".join([ROOT, b"/a %d 100644 1 0 0 0 0.0 - %s -" % (size, content)])
        if size < 4096:
            lines = [b"/%d %d 120777 1 0 0 0 0.0 %s - -" % (i, size, content) for i in (1, 2)]
            yield b"\n".join([ROOT, *lines])
    for number in range(1, 40, 3):
        names = b"\n".join(b"/%s%d" % (b"n" * 30, i) + FILE[2:] for i in range(number))
        yield b"\n".join([ROOT, names, b"/z 1900 100644 1 0 0 0 0.0 - %s -" % (b"c" * 1900)])
    for size in (1, 4096, 4097, 1 << 32, (1 << 43) + 1, 1 << 53, (1 << 53) - (1 << 43)):
        yield b"\n".join([ROOT, _file(b"a", size), _file(b"b", size, b" user.a=" + b"v" * 900)])
