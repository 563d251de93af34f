# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An fs-verity digest: the identity of an image or object.

Text forms: 64 or 128 lower-case hex digits, alone or after `fsverity-sha256-12:`,
`fsverity-sha512-12:`, `sha256:`, `sha512:`. The value: Documentation/filesystems/fsverity.rst.
"""

import _cfs
import errno

from pyinit.initrd.report.errors import UsageError

ALGORITHMS = {_cfs.SHA256: "sha256", _cfs.SHA512: "sha512"}

_FAULTS = {
    errno.ENODATA: "an empty digest",
    errno.EPROTONOSUPPORT: "an unknown prefix",
    errno.EMSGSIZE: "a digest of the wrong length",
    errno.EILSEQ: "a character that is not a lower-case hex digit",
}
_EXPECTED = "64 (sha256) or 128 (sha512) lower-case hex digits"


class Digest:
    """Algorithm and bytes; equal where both are."""

    __slots__ = ("algorithm", "value")

    def __init__(self, algorithm: int, value: bytes) -> None:
        self.algorithm = algorithm
        self.value = value

    @classmethod
    def parse(cls, text: str | bytes, where: str) -> "Digest":
        """The digest in one of the text forms. UsageError with `where` (an option, a file) as its
        path: it has none of them."""
        # Any surrogate passes: what it becomes is no hex digit, and that is said below.
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        try:
            return cls(*_cfs.digest_parse(raw))
        except OSError as error:
            found = _FAULTS[error.errno or 0]
            if raw:
                shown = text if isinstance(text, str) else raw.decode("latin-1")
                found = f"{found} ({len(shown)} characters: '{shown[:200]}')"
            raise UsageError("usage", where, found, _EXPECTED) from None

    @property
    def pair(self) -> tuple[int, bytes]:
        """As the core takes it."""
        return (self.algorithm, self.value)

    @property
    def hex(self) -> str:
        """The digits alone: the name of the image in a store."""
        return _cfs.digest_format(self.pair)

    def __str__(self) -> str:
        return f"{ALGORITHMS[self.algorithm]}:{self.hex}"

    def __repr__(self) -> str:
        return f"Digest({self!s})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and _cfs.digest_equal(self.pair, other.pair)

    def __hash__(self) -> int:
        return hash(self.pair)
