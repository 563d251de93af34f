# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Takes the place of pyinit.initrd.root.canary in a build for tests: fails as nobody expected."""


def check(lower: int, root: int, where: str) -> str | None:
    """In the middle: the layers are mounted and the root is not attached."""
    raise KeyError(f"nobody expected this: {where}\n\x1b[31m")
