# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is reached from the names in a repository: streams' objects too, as composefs-rs has it."""

from __future__ import annotations

import _cfs
import _cfshost
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinit.host.store import check, fsverity
from pyinit.host.store.layout import Store
from pyinit.host.store.roots import Needed, digest_of_hex
from pyinit.initrd.root.digest import Digest
from tests.host.store import written
from tests.host.store.played import put
from tests.host.store.test_gc import add_image, add_ref, collect, content, digits, tree, whole
from tests.host.store.test_streams import stream
from tests.host.store.written import Node, directory, inline, link, stored

pytestmark = pytest.mark.usefixtures("alone")
FIXTURE = Path(__file__).resolve().parents[2] / "vm/state/bootc.tar.gz"


def put_stream(store: Path, name: str, streams: list[str], objects: list[str]) -> str:
    """A stream that refers to these, by their digits; its own."""
    data = stream(*(bytes.fromhex("".join(sorted(parts))) for parts in (streams, objects)))
    path = put(store, data)
    (store / "streams").mkdir(exist_ok=True)
    (store / "streams" / name).symlink_to(f"../objects/{path.parent.name}/{path.name}")
    return path.parent.name + path.name


def test_an_image_of_a_container(store: Path) -> None:
    """Tag, manifest, configuration, layers; and the image that the configuration refers to."""
    for number in range(1, 6):
        put(store, content(number))
    layer = put_stream(store, "oci-layer-sha256:1", [], [digits(content(1)), digits(content(2))])
    image = add_image(store, [1, 3])
    config = put_stream(store, "oci-config-sha256:2", [layer, image], [digits(content(4))])
    manifest = put_stream(store, "oci-manifest-sha256:3", [config, layer], [])
    put_stream(store, "oci-layer-sha256:4", [], [digits(content(5))])
    add_ref(store, "streams", "oci/x%2Fy:latest", "oci-manifest-sha256:3")
    assert collect(store, "--now") == 0
    reached = {layer, image, config, manifest, *(digits(content(number)) for number in range(1, 5))}
    found = {name[8:].replace("/", "") for name in tree(store) if name.startswith("objects/")}
    assert found == reached
    assert whole(store, image)
    # Only by these does cfsctl find a stream that another one refers to.
    kept = {"oci-layer-sha256:1", "oci-config-sha256:2", "oci-manifest-sha256:3"}
    links = {name[8:] for name in tree(store) if name.startswith("streams/")}
    assert links == kept | {"refs/oci/x%2Fy:latest"}


def test_the_links_of_streams_come_back(store: Path) -> None:
    layer = put_stream(store, "layer", [], [])
    put_stream(store, "manifest", [layer], [])
    before = tree(store)
    assert collect(store) == 0
    [run] = (store / "gc").iterdir()
    (run / "streams/manifest").rename(store / "streams/manifest")
    add_ref(store, "streams", "name", "manifest")
    assert collect(store) == 0
    assert set(tree(store)) == {*before, "streams/refs/name"}


def test_streams_that_refer_to_each_other_end(store: Path) -> None:
    """Nobody can make a circle of digests; one is shown twice."""
    leaf = put_stream(store, "leaf", [], [])
    put_stream(store, "a", [leaf], [])
    add_ref(store, "streams", "a", "a")
    add_ref(store, "streams", "b", "leaf")
    assert collect(store, "--now") == 0


@pytest.mark.parametrize("what", ["gone", "changed", "cut", "none"])
def test_a_stream_that_cannot_be_read(store: Path, what: str) -> None:
    put(store, content(1))
    leaf = put_stream(store, "leaf", [], [digits(content(1))])
    put_stream(store, "top", [leaf], [])
    place = store / "objects" / leaf[:2] / leaf[2:]
    if what == "gone":
        place.unlink()
    elif what == "changed":
        place.write_bytes(stream(b"", b""))
    elif what == "cut":
        path = put(store, stream(b"", b"x"))
        put_stream(store, "bad", [path.parent.name + path.name], [])
        add_ref(store, "streams", "bad", "bad")
    else:
        (store / "streams/top").unlink()
        (store / "streams/top").symlink_to("/etc/passwd")
    add_ref(store, "streams", "top", "top")
    before = tree(store)
    assert collect(store, "--now") == 32
    assert tree(store) == before


@pytest.mark.parametrize("name", ["composefs", "composefs-sha256"])
def test_a_repository_of_cfsctl(tmp_path: Path, name: str) -> None:
    """It has one image, and no name for it: cfsctl would remove it, and so do we, unless a
    deployment of bootc says otherwise."""
    subprocess.run(["tar", "-C", tmp_path, "-xzf", FIXTURE], check=True, timeout=60)
    store = tmp_path / name
    [image] = os.listdir(store / "images")
    report = check.check(Store(store), sealed=False, progress=lambda _, __: None)
    assert not report.faults
    assert whole(store, image)
    before = tree(store)
    deployment = tmp_path / "state/deploy" / image
    deployment.mkdir(parents=True)
    assert collect(store, "--now") == 0
    assert tree(store) == before
    deployment.rmdir()
    add_ref(store, "images", "name", image)
    assert collect(store, "--now") == 0
    assert set(tree(store)) - set(before) == {"images/refs/name"}
    (store / "images/refs/name").unlink()
    assert collect(store, "--now") == 0
    assert set(tree(store)) == {"meta.json"}


def test_contents_that_are_written_otherwise(store: Path) -> None:
    """As the kernel walks a path: `.` and doubled slashes are nothing."""
    digest = digits(content(1))
    put(store, content(1))
    for redirect in (f"{digest[:2]}//{digest[2:]}", f"/./{digest[:2]}/./{digest[2:]}"):
        file = stored(digest)
        file.xattrs = [file.xattrs[0], (written.TRUSTED, b"overlay.redirect", redirect.encode())]
        image = put(store, written.image(directory((b"f", file))))
        live = _cfshost.Live()
        try:
            live.add_image(_cfshost.Image(image.read_bytes()))
        except _cfshost.Malformed:
            continue  # the reader refuses such a one, and so does who collects
        assert bytes.fromhex(digest) in live


@given(st.lists(st.binary(min_size=32, max_size=32)), st.lists(st.binary(min_size=32, max_size=32)))
def test_a_set_of_digests(some: list[bytes], others: list[bytes]) -> None:
    live = _cfshost.Live()
    live.add(b"".join(some), 32)
    live.add(b"".join(digest * 2 for digest in some), 64)
    live.add(b"".join(some[::-1]), 32)
    assert len(live) == 2 * len(set(some))
    for digest in some + others:
        assert (digest in live) is (digest in some)
        assert (digest * 2 in live) is (digest in some)
    for wrong in (b"", b"x", bytes(33), bytes(65)):
        assert wrong not in live
    for size in (0, 16, 33):
        with pytest.raises(ValueError, match="no digests of that size"):
            live.add(bytes(66), size)


def test_digits() -> None:
    assert digest_of_hex("ab" * 32) == Digest(_cfs.SHA256, b"\xab" * 32)
    assert digest_of_hex("ab" * 64) == Digest(_cfs.SHA512, b"\xab" * 64)
    for wrong in ("", "ab" * 31, "ab" * 33, "AB" * 32, "ag" * 32, "ab" * 32 + "\n"):
        assert digest_of_hex(wrong) is None


def test_a_sealed_image_is_measured_by_the_kernel(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = add_image(store, [1])
    other = Digest(_cfs.SHA256, bytes(32))
    for found, right in ((Digest.parse(digest, ""), True), (other, False)):
        monkeypatch.setattr(fsverity, "measured", lambda _fd, found=found: found)
        needed = Needed(Store(store))
        needed.keep_image(Digest.parse(digest, ""), "a test")
        assert (not needed.unread) is right


# ---- what an image lists for `cfs-mount --name`

LISTED = b"cfsimg1\ndigest=fsverity-sha256-12:%s\n"


def _add_root(store: Path, *lists: tuple[bytes, Node], place: str = "usr/lib/cfs/images.d") -> str:
    """A named image with these files there; its digest."""
    tree_of = directory(*sorted(lists, key=lambda entry: entry[0]))
    for name in reversed(place.split("/")):
        tree_of = directory((name.encode(), tree_of), (b"x" + name.encode(), inline(b"beside")))
    return _add(store, written.image(tree_of), "cfs/root")


def _add(store: Path, data: bytes, ref: str = "") -> str:
    path = put(store, data)
    digest = path.parent.name + path.name
    (store / "images" / digest).symlink_to(f"../objects/{digest[:2]}/{digest[2:]}")
    if ref:
        add_ref(store, "images", ref, digest)
    return digest


def _in_store(store: Path, data: bytes) -> Node:
    """A file whose content is an object."""
    put(store, data)
    return stored(digits(data), len(data))


def test_what_an_image_lists_stays(store: Path) -> None:
    """In the image itself, or in an object; also what that lists in its turn."""
    last, gone = add_image(store, [1]), add_image(store, [2])
    middle_list = directory((b"c.conf", inline(LISTED % last.encode())))
    for name in (b"images.d", b"cfs", b"lib", b"usr"):
        middle_list = directory((name, middle_list))
    middle, other = _add(store, written.image(middle_list)), add_image(store, [3])
    root = _add_root(
        store,
        (b"a.conf", inline(LISTED % middle.encode())),
        (b"b.conf", _in_store(store, LISTED % other.encode() + b"store=/elsewhere\n")),
    )
    assert collect(store, "--now") == 0
    for kept in (root, middle, other, last):
        assert whole(store, kept)
    assert not (store / "images" / gone).is_symlink()


def test_what_is_no_list_keeps_nothing(store: Path) -> None:
    """cfs-mount refuses these, or looks for them nowhere."""
    images = {number: add_image(store, [number]) for number in range(1, 7)}
    texts = {number: LISTED % digest.encode() for number, digest in images.items()}
    _add_root(
        store,
        (b"1.conf", inline(texts[1] + b"insecure=1\n")),
        (b"2.txt", inline(texts[2])),
        (b"3.conf", directory((b"3.conf", inline(texts[3])))),
        (b"4.conf", link(b"../4.conf")),
        (b"5.conf", inline(texts[5][:-1])),
        (b"absent.conf", inline(LISTED % (b"ab" * 32))),
    )
    elsewhere = _add(
        store, written.image(directory((b"6.conf", inline(texts[6])))), "cfs/elsewhere"
    )
    assert collect(store, "--now") == 0
    assert whole(store, elsewhere)
    assert not [number for number in images if (store / "images" / images[number]).is_symlink()]


def test_a_list_that_cannot_be_read_stops_it(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It might name anything."""
    named = add_image(store, [1])
    text = LISTED % named.encode()
    root = _add_root(store, (b"a.conf", _in_store(store, text)))
    digest = digits(text)
    (store / "objects" / digest[:2] / digest[2:]).unlink()
    before = tree(store)
    assert collect(store, "--now") == 32
    assert tree(store) == before
    said = f"not there, and /usr/lib/cfs/images.d/a.conf of sha256:{root} needs it"
    assert said in capsys.readouterr().err
