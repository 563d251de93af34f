# SPDX-License-Identifier: Apache-2.0 OR MIT
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.uki import payload_write
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import payload

ONE = Digest(1, b"\x01" * 32)
digests = st.one_of(
    st.binary(min_size=32, max_size=32).map(lambda value: Digest(1, value)),
    st.binary(min_size=64, max_size=64).map(lambda value: Digest(2, value)),
)
names = st.from_regex(
    r"initrd|(app|sysext|confext)\.[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True
).filter(lambda name: not name.endswith((".raw", ".v", ".sysext", ".confext")))


@given(
    st.lists(digests, min_size=1, max_size=20, unique=True),
    st.dictionaries(names, digests, max_size=20),
    st.integers(0, 400),
)
def test_what_is_written_is_read(
    roots: list[Digest], others: dict[str, Digest], padding: int
) -> None:
    data = payload_write.write(roots, others)
    found = payload.parse(data + b"\0" * padding, "x")
    assert (found.roots, found.others) == (roots, others)
    assert list(found.others) == sorted(others)
    assert data == payload_write.write(roots, dict(reversed(others.items())))
    text = "".join(line + "\n" for line in [payload.FIRST, *found.lines()])
    assert text.encode() == data


def test_what_no_payload_can_say() -> None:
    many = [Digest(1, bytes([number]) * 32) for number in range(33)]
    for wrong in ([], many, many[:1] * 2):
        with pytest.raises(ValueError, match="1 to 32 different ones"):
            payload_write.write(wrong)
    for key in ("sysext.A", "sysext.", "sysext", "initrd.a", "app.A", "sysext.a/b", "sysext..a"):
        with pytest.raises(ValueError, match="a name is"):
            payload_write.write([ONE], {key: ONE})
    with pytest.raises(ValueError, match="65 images beside the root: 64"):
        payload_write.write([ONE], {f"sysext.{number}": ONE for number in range(65)})
    long = {f"sysext.{number:064}": Digest(2, bytes(64)) for number in range(64)}
    with pytest.raises(ValueError, match="bytes: at most 16384"):
        payload_write.write([Digest(2, bytes([number]) * 64) for number in range(32)], long)
