# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The C core by cffi in ABI mode, with buffers that end exactly where their content does."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cffi

from . import build


class Core:
    """`lib` has the functions and constants of cfs.h, `ffi` its types. The library is the core's,
    or the extension module, which has the core in it."""

    def __init__(self, library: Path) -> None:
        self.ffi = ffi = cffi.FFI()
        ffi.cdef(build.declarations())
        ffi.cdef("extern int (*fault_sys_ioctl)(int, unsigned long, void *);")
        ffi.cdef("extern int fault_parser, fault_descriptor;")
        ffi.cdef("extern unsigned long fault_file_system;")
        ffi.cdef("extern const char *fault_call; extern int fault_call_times, fault_call_error;")
        ffi.cdef("extern int fault_call_after; extern size_t fault_read_most;")
        ffi.cdef("extern int account_on, account_filter_to; extern char account_text[16384];")
        ffi.cdef("extern unsigned long account_elsewhere;")
        ffi.cdef("extern char account_messages[1024];")
        ffi.cdef("extern int account_no_loop, account_no_stat, account_no_stream;")
        ffi.cdef("extern int account_also_at, account_also_error;")
        ffi.cdef("void account_begin(int fail_at, int error);")
        ffi.cdef("void *malloc(size_t); void free(void *);")
        self.lib = ffi.dlopen(str(library))
        # ASan's malloc: a byte too far is a report. The memory of ffi.new() and of bytes objects
        # has a tail.
        allocator = ffi.dlopen(None)
        self._new = ffi.new_allocator(allocator.malloc, allocator.free, False)

    def buffer(self, content: bytes) -> Any:
        """A copy in a heap block of just that size (for an empty one: of which no byte may be
        read)."""
        block = self._new("uint8_t[]", max(len(content), 1))
        if not content:
            return block + 1
        self.ffi.buffer(block)[:] = content
        return block

    def room(self, size: int) -> Any:
        """Uninitialized, to be written to."""
        return self._new("uint8_t[]", size)

    def text(self, pointer: Any) -> str | None:
        if pointer == self.ffi.NULL:
            return None
        text = self.ffi.string(pointer)
        assert isinstance(text, bytes)
        return text.decode("ascii")

    # ---- account.c

    @contextlib.contextmanager
    def account(
        self, fail_at: int = 0, error: int = 0, also_at: int = 0, also: int = 0
    ) -> Iterator[list[str]]:
        """What the core would have had the kernel do inside of the `with`, when that has ended.
        The call number `fail_at`, from 1 on, has that error, and `also_at` the error `also`."""
        said: list[str] = []
        self.lib.account_begin(fail_at, error)
        self.lib.account_also_at, self.lib.account_also_error = also_at, also
        try:
            yield said
        finally:
            self.lib.account_on = 0
            said += self.ffi.string(self.lib.account_text).decode("ascii").splitlines()

    @contextlib.contextmanager
    def failing(self, name: str, error: int, times: int = 1, after: int = 0) -> Iterator[None]:
        """The C library's function `name` has that error, so many times after so many calls."""
        text = self.ffi.new("char[]", name.encode())
        self.lib.fault_call_after = after
        self.lib.fault_call_times, self.lib.fault_call_error = times, error
        self.lib.fault_call = text
        try:
            yield
        finally:
            self.lib.fault_call = self.ffi.NULL

    def each_call_fails(self, run: Callable[[], int], *ignored: str) -> list[str]:
        """The calls that `run` makes. Each in its turn has an error, which has to be the result and
        the end, but for those that begin like one of `ignored`. Descriptors are opened before any
        is looked at."""
        with self.account() as all_said:
            result = run()
            assert result >= 0
        for number, call in enumerate(all_said, 1):
            with self.account(number, errno.EDOM) as said:
                result = run()
            if not call.startswith(ignored):
                assert result == -errno.EDOM, call
                assert said[:number] == all_said[:number]
                assert all(later.startswith(("open", "flock")) for later in said[number:]), call
        return all_said

    # ---- digest.c

    def digest_parse(self, text: bytes) -> tuple[int, Any]:
        digest = self.ffi.new("struct cfs_digest *")
        block = self.buffer(text)
        return self.lib.cfs_digest_parse(self.ffi.cast("char *", block), len(text), digest), digest

    def digest_format(self, digest: Any) -> tuple[int, str]:
        out = self.room(self.lib.CFS_DIGEST_HEX_MAX)
        result = self.lib.cfs_digest_format(digest, self.ffi.cast("char *", out))
        text = self.ffi.string(self.ffi.cast("char *", out)) if result == 0 else b""
        return result, text.decode("ascii")

    def digest(self, algorithm: int, value: bytes, size: int | None = None) -> Any:
        digest = self.ffi.new("struct cfs_digest *")
        digest.algorithm = algorithm
        digest.size = len(value) if size is None else size
        self.ffi.buffer(digest.bytes)[: len(value)] = value
        return digest

    # ---- pe.c

    def pe_parse(self, data: bytes) -> tuple[int, Any, str | None]:
        """(result, struct cfs_pe, why)"""
        pe = self.ffi.new("struct cfs_pe *")
        why = self.ffi.new("const char **")
        block = self.buffer(data)
        result = self.lib.cfs_pe_parse_buffer(block, len(data), pe, why)
        return result, pe, self.text(why[0])

    def pe_parse_fd(self, fd: int) -> tuple[int, Any, str | None]:
        pe = self.ffi.new("struct cfs_pe *")
        why = self.ffi.new("const char **")
        return self.lib.cfs_pe_parse_fd(fd, pe, why), pe, self.text(why[0])

    def pe_find(self, pe: Any, name: bytes, profile: int = -1) -> tuple[int, str | None]:
        why = self.ffi.new("const char **")
        block = self.buffer(name + b"\0")
        result = self.lib.cfs_pe_find(pe, self.ffi.cast("char *", block), profile, why)
        return result, self.text(why[0])

    def sections(self, pe: Any) -> list[tuple[bytes, int, int, int, int, int]]:
        return [
            (
                bytes(self.ffi.buffer(s.name)), s.virtual_size, s.virtual_address, s.raw_size,
                s.raw_pointer, s.characteristics,
            )
            for s in pe.sections[0 : pe.section_count]
        ]  # fmt: skip
