# SPDX-License-Identifier: Apache-2.0 OR MIT
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.uki import payload_write
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import payload

A = "a1" * 32
B = "b2" * 64
LINE_A = f"rootfs=fsverity-sha256-12:{A}\n".encode()
LINE_B = f"rootfs=fsverity-sha512-12:{B}\n".encode()
ONE = b"cfsdig1\n" + LINE_A


def line(key: str, byte: str) -> bytes:
    return f"{key}=fsverity-sha256-12:{byte * 32}\n".encode()


digests = st.one_of(
    st.binary(min_size=32, max_size=32).map(lambda value: Digest(1, value)),
    st.binary(min_size=64, max_size=64).map(lambda value: Digest(2, value)),
)


def refusal(data: bytes) -> str:
    with pytest.raises(Refused) as caught:
        payload.parse(data, "the place")
    assert (caught.value.step, caught.value.path) == ("source", "the place")
    return str(caught.value)


def test_the_documented_bytes() -> None:
    assert payload.parse(ONE, "x").roots == [Digest(1, bytes.fromhex(A))]
    assert payload_write.write([Digest(1, bytes.fromhex(A))]) == ONE


def test_order_is_kept() -> None:
    found = payload.parse(b"cfsdig1\n" + LINE_B + LINE_A, "x")
    assert [digest.algorithm for digest in found.roots] == [2, 1]


def test_extensions() -> None:
    """docs/reference/formats.md"""
    found = payload.parse(
        ONE + line("confext.site", "c3") + line("sysext.a-1.2_x", "d4") + line("sysext.b", "c3"),
        "x",
    )
    assert [digest.hex for digest in found.roots] == [A]
    assert {key: digest.hex[:2] for key, digest in found.extensions.items()} == {
        "confext.site": "c3", "sysext.a-1.2_x": "d4", "sysext.b": "c3",
    }  # fmt: skip
    assert str(found) == (
        f"sha256:{A} confext.site=sha256:{'c3' * 32} sysext.a-1.2_x=sha256:{'d4' * 32} "
        f"sysext.b=sha256:{'c3' * 32}"
    )


def test_only_extensions_are_composed_by_the_boot() -> None:
    lines = [("app.a", "c3"), ("app.b.c", "d4"), ("initrd", "e5"), ("sysext.b", "f6")]
    found = payload.parse(ONE + b"".join(line(*one) for one in lines), "x")
    assert list(found.others) == [key for key, _ in lines]
    assert {key: digest.hex[:2] for key, digest in found.extensions.items()} == {"sysext.b": "f6"}
    assert {name: digest.hex[:2] for name, digest in found.apps.items()} == {"a": "c3", "b.c": "d4"}
    assert payload.parse(ONE + line("sysext.b", "f6"), "x") != found


def test_two_that_name_the_same_roots_and_other_extensions_differ() -> None:
    plain, more = payload.parse(ONE, "x"), payload.parse(ONE + line("sysext.a", "c3"), "x")
    other = payload.parse(ONE + line("sysext.a", "d4"), "x")
    assert plain == payload.parse(ONE, "y")
    assert plain != more
    assert more != other
    assert plain != [*plain.roots]


def test_padding_is_allowed_at_the_end_only() -> None:
    assert payload.parse(ONE.ljust(payload.MAX, b"\0"), "x") == payload.parse(ONE, "x")
    assert "at most 16384" in refusal(ONE.ljust(payload.MAX + 1, b"\0"))
    assert "byte 0x00 at offset" in refusal(ONE + b"\0" + LINE_B)
    assert "byte 0x00 at offset 7" in refusal(b"cfsdig1\0\n" + LINE_A)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"\0" * 16, "16 NUL bytes and nothing else"),
        (b"cfsdig1\n", "0 digests, expected 1 to 32"),
        (b"cfsdig1", "no LF"),
        (ONE[:-1], "no LF"),
        (ONE[:-2] + b"\n", "wrong length"),
        (b"cfsdig2\n" + LINE_A, "first line is 'cfsdig2'"),
        (LINE_A, "first line is 'rootfs="),
        (b"\n" + ONE, "first line is ''"),
        (b" cfsdig1\n" + LINE_A, "first line"),
        (ONE + b"\n", "line 3 is ''"),
        (b"cfsdig1\n\n" + LINE_A, "line 2 is ''"),
        (ONE.replace(b"\n", b"\r\n"), "byte 0x0d"),
        (ONE + b"insecure=1\n", "unknown key 'insecure', expected rootfs, app.NAME, conf"),
        (ONE + line("sysext", "c3"), "unknown key 'sysext'"),
        (ONE + line("sysext.", "c3"), "unknown key 'sysext.'"),
        (ONE + line("app", "c3"), "unknown key 'app'"),
        (ONE + line("app.A", "c3"), "unknown key 'app.A'"),
        (ONE + line("confext.a", "c3") + line("app.a", "d4"), "app.a behind confext.a"),
        (ONE + line("initrd.a", "c3"), "unknown key 'initrd.a'"),
        (ONE + line("initrd", "c3") * 2, "initrd behind initrd"),
        (ONE + line("sysext.a", "c3") + line("initrd", "c3"), "initrd behind sysext.a"),
        (b"cfsdig1\n" + line("initrd", "c3"), "0 digests"),
        (ONE + line("sysext.A", "c3"), "unknown key 'sysext.A'"),
        (ONE + line("sysext..", "c3"), "unknown key 'sysext..'"),
        (ONE + line("sysext.-a", "c3"), "unknown key 'sysext.-a'"),
        (ONE + line("sysext.a.raw", "c3"), "unknown key 'sysext.a.raw'"),
        (ONE + line("sysext.a.v", "c3"), "unknown key 'sysext.a.v'"),
        (ONE + line("sysext.a.sysext", "c3"), "unknown key 'sysext.a.sysext'"),
        (ONE + line("confext.a.confext", "c3"), "unknown key 'confext.a.confext'"),
        (ONE + line("sysext.a/b", "c3"), "unknown key 'sysext.a/b'"),
        (ONE + line("sysext." + "a" * 65, "c3"), "unknown key 'sysext.aaa"),
        (
            ONE + line("sysext.a", "c3") + LINE_B,
            "rootfs behind sysext.a, expected rootfs, and then",
        ),
        (ONE + line("sysext.a", "c3") * 2, "sysext.a behind sysext.a"),
        (ONE + line("sysext.b", "c3") + line("sysext.a", "d4"), "sysext.a behind sysext.b"),
        (ONE + line("sysext.a", "c3") + line("confext.a", "d4"), "confext.a behind sysext.a"),
        (b"cfsdig1\n" + line("sysext.a", "c3"), "0 digests"),
        (ONE + b"sysext.a=sha256:%s\n" % A.encode(), "sysext.a='sha256:"),
        (ONE + b"sysext.a=fsverity-sha256-12:%s\n" % A[2:].encode(), "wrong length"),
        (ONE + b"Rootfs=x\n", "unknown key 'Rootfs'"),
        (ONE + b"rootfs\n", "expected key=value"),
        (ONE + b"=x\n", "expected key=value"),
        (ONE + b"#rootfs=x\n", "unknown key"),
        (ONE + LINE_A, "is there twice"),
        (b"cfsdig1\nrootfs=\n", "rootfs=''"),
        (b"cfsdig1\nrootfs=fsverity-sha256-12:\n", "wrong length"),
        (b"cfsdig1\nrootfs=?fsverity-sha256-12:%s\n" % A.encode(), "rootfs='?"),
        (b"cfsdig1\nrootfs=%s\n" % A.encode(), "expected fsverity-sha256-12:"),
        (b"cfsdig1\nrootfs=sha256:%s\n" % A.encode(), "expected fsverity-sha256-12:"),
        (ONE.replace(b"a1", b"A1", 1), "lower-case"),
        (ONE.replace(b"sha256", b"sha512"), "wrong length"),
        (ONE.replace(b"a1\n", b"a1 \n"), "wrong length"),
        (ONE.replace(b"fsverity", b"fsv\xc3\xa9rity"), "byte 0xc3"),
    ],
)
def test_what_is_refused(data: bytes, words: str) -> None:
    assert words in refusal(data)


def test_at_most_32() -> None:
    many = [Digest(1, bytes([n]) * 32) for n in range(33)]
    assert payload.parse(payload_write.write(many[:32]), "x").roots == many[:32]
    each = b"rootfs=fsverity-sha256-12:%s\n"
    assert "33 digests" in refusal(b"cfsdig1\n" + b"".join(each % d.hex.encode() for d in many))


def test_at_most_64_extensions() -> None:
    named = [line(f"sysext.{number:02}", "c3") for number in range(65)]
    assert len(payload.parse(ONE + b"".join(named[:64]), "x").extensions) == 64
    words = "65 images beside the root, expected at most 64"
    assert words in refusal(ONE + b"".join(named))
    assert words in refusal(ONE + line("app.a", "c3") + b"".join(named[:64]))


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda tail: ONE + tail))
def test_any_bytes_are_a_payload_of_one_spelling_or_refused(data: bytes) -> None:
    try:
        found = payload.parse(data, "x")
    except Refused:
        return
    assert payload_write.write(found.roots, found.others) == data.rstrip(b"\0")


MORE = ONE + line("app.a", "e5") + line("confext.a", "c3") + line("sysext.a", "d4")


@given(st.integers(0, len(MORE) - 1), st.integers(0, 7))
def test_no_flipped_bit_gives_the_same_digest(at: int, bit: int) -> None:
    data = bytearray(MORE)
    data[at] ^= 1 << bit
    try:
        assert payload.parse(bytes(data), "x") != payload.parse(MORE, "x")
    except Refused:
        pass
