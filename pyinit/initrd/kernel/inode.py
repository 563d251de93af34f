# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Kinds of files, as inode(7) has them: the frozen interpreter has no module stat."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from posix import stat_result

DIRECTORY, BLOCK, REGULAR, LINK = 0o040000, 0o060000, 0o100000, 0o120000


def kind(status: "stat_result") -> int:
    """One of the above, or another."""
    return status.st_mode & 0o170000
