# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-uki seal --embed` and `payload --embed`, and what `cfs-store gc` makes of such a UKI."""

import _cfs
import _cfshost
import json
import re
from pathlib import Path
from stat import S_IFDIR, S_IFREG

import pytest

from pyinit.host.commands import cfs_store, uki_embed
from pyinit.host.commands.cfs_uki import main
from pyinit.host.uki.cpio import Entry, read_cpio, write_cpio
from pyinit.host.uki.read import CARRIED, EMBEDDED, OBJECTS, Uki
from pyinit.host.uki.seal import format_digests
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import config
from pyinit.initrd.source.config import Config
from tests.host.commands.test_cfs_uki import ONE, TWO, Capture, write
from tests.host.commands.test_store_roots import as_digest, esp, gc
from tests.host.store import written
from tests.host.store.conftest import alone, kernel, store
from tests.host.store.test_gc import add_image, whole

__all__ = ["alone", "esp", "kernel", "store"]


def image_of(digits: str = "ab" * 32) -> bytes:
    """With one file, whose object has this name."""
    file = written.stored(digits, size=9, algorithm=len(digits) // 64)
    return written.image(written.directory((b"file", file)))


def of(image: bytes, algorithm: int = _cfs.SHA256) -> Digest:
    return Digest(algorithm, _cfshost.verity_digest(image, algorithm))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "root.cfs"
    path.write_bytes(image_of())
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_its_own_digest_is_named(
    plain_uki: Path, image: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Both come in one archive, the image before what names it."""
    target, digest = tmp_path / "out.efi", of(image.read_bytes())
    assert run("seal", "--embed", image, plain_uki, "-o", target) == 0
    uki = Uki(target)
    assert uki.carried_digests() == uki.section_digests() == [digest]
    [copy] = uki.carried()
    assert copy.alone
    initrd = uki.read(".initrd")
    assert initrd is not None
    entries, _ = read_cpio(initrd, copy.start)
    assert entries[-2:] == [
        Entry(EMBEDDED, S_IFREG | 0o444, image.read_bytes()),
        Entry(CARRIED, S_IFREG | 0o444, format_digests([digest])),
    ]
    assert run("show", target) == 0
    assert f"  carried: {digest}\n  embedded: {digest}\n  agree:   yes" in capsys.readouterr().out
    assert run("show", "--json", target) == 0
    [about] = json.loads(capsys.readouterr().out)["digests"]
    assert about["embedded"] == str(digest)
    assert run("payload", "--embed", image, tmp_path) == 0
    assert (tmp_path / "cfsdig.initrd").read_bytes() == initrd[copy.start - 4 :]


def test_it_is_named_as_its_objects_are(plain_uki: Path, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(image_of("ab" * 64))
    target = tmp_path / "out.efi"
    assert run("seal", "--embed", tmp_path / "image", plain_uki, "-o", target) == 0
    assert Uki(target).carried_digests() == [of(image_of("ab" * 64), _cfs.SHA512)]


def test_beside_others(plain_uki: Path, image: Path, tmp_path: Path, capsys: Capture) -> None:
    """It is one of those that are given, wherever it stands."""
    target, digest = tmp_path / "out.efi", of(image.read_bytes(), _cfs.SHA512)
    given = ["--digest", ONE, "--digest", digest]
    assert run("seal", *given, "--embed", image, plain_uki, "-o", target) == 0
    assert Uki(target).carried_digests() == [ONE, digest]
    assert run("show", target) == 0
    assert f"  embedded: {digest}\n" in capsys.readouterr().out


@pytest.fixture
def full(tmp_path: Path, store: Path) -> tuple[Path, str]:
    """A store, and an image of it with two objects."""
    named = add_image(store, [1, 2])
    path = tmp_path / "full.cfs"
    path.write_bytes((store / "images" / named).read_bytes())
    return path, named


@pytest.mark.usefixtures("alone")
def test_its_objects(
    plain_uki: Path, full: tuple[Path, str], store: Path, tmp_path: Path, capsys: Capture
) -> None:
    """As the store has them; sealed again, the archive goes as a whole."""
    target, image = tmp_path / "out.efi", full[0]
    more = ["--embed", image, "--embed-objects", store]
    assert run("seal", *more, "--app", f"a={TWO}", plain_uki, "-o", target) == 0
    uki = Uki(target)
    [copy] = uki.carried()
    assert copy.alone
    initrd = uki.read(".initrd")
    assert initrd is not None
    entries, _ = read_cpio(initrd, copy.start)
    names = _cfshost.objects([_cfshost.Image(image.read_bytes())])[0].decode().split()
    assert len(names) == 2
    assert {entry.name: entry.data for entry in entries if OBJECTS in entry.name if entry.data} == {
        f"{OBJECTS}/{name}": (store / "objects" / name).read_bytes() for name in names
    }
    assert run("seal", "--replace", "--embed", image, target, "-o", target) == 0
    assert OBJECTS.encode() not in target.read_bytes()
    assert run("payload", *more, tmp_path) == 0
    assert (tmp_path / "cfsdig.initrd").read_bytes().count(f"{OBJECTS}/".encode()) >= 2
    # One that is another one, and one that is not there.
    path = store / "objects" / names[0]
    path.chmod(0o644)
    path.write_bytes(b"other")
    capsys.readouterr()
    assert run("payload", *more, tmp_path) == 32
    assert f"measure: {path}: sha256:" in capsys.readouterr().err
    path.unlink()
    assert run("payload", *more, tmp_path) == 2
    assert f"store: {path}: No such file" in capsys.readouterr().err


@pytest.mark.usefixtures("alone")
def test_a_configuration_that_keeps_something_on_a_disk(
    full: tuple[Path, str], store: Path, tmp_path: Path, capsys: Capture
) -> None:
    """As far as it can be seen; the boot refuses it."""
    settings = Config()
    settings.var = "bind"
    archive = write_cpio([Entry(config.PATH[1:], S_IFREG | 0o644, config.format(settings))])
    source = write(tmp_path / "in.efi", (".initrd", archive), (".cmdline", b"quiet"))
    target = tmp_path / "out.efi"
    assert run("seal", "--embed", full[0], source, "-o", target) == 0
    assert "--embed-objects" not in capsys.readouterr().err
    more = ["--embed", full[0], "--embed-objects", store]
    assert run("seal", *more, source, "-o", target) == 0
    said = capsys.readouterr().err
    assert f"warning: {source}: --embed-objects: [var] mount is 'bind' in its initrd" in said
    assert "[etc]" not in said


@pytest.mark.usefixtures("alone")
def test_nothing_of_a_disk_beside_objects(
    plain_uki: Path, full: tuple[Path, str], store: Path, tmp_path: Path, capsys: Capture
) -> None:
    more = ["--embed", full[0], "--embed-objects", store]
    end = [plain_uki, "-o", tmp_path / "out.efi"]
    for arguments in (
        ["--digest", of(full[0].read_bytes()), "--digest", ONE],
        ["--sysext", f"a={ONE}"],
    ):
        assert run("seal", *more, *arguments, *end) == 1
        assert "--embed-objects: other images beside it: the" in capsys.readouterr().err
    assert run("seal", "--embed-objects", store, "--digest", ONE, *end) == 1
    assert "--embed-objects: without --embed" in capsys.readouterr().err


def test_refused(
    plain_uki: Path, image: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.efi"
    end = [plain_uki, "-o", target]
    for code, arguments, said in (
        (1, [], "--digest: not there, expected --digest DIGEST, or --embed FILE"),
        (1, ["--embed", image, "--digest", ONE], f"{of(image.read_bytes())}, expected an image th"),
        (1, ["--embed", image, "--initrd", TWO], "--embed: not together with --initrd: the second"),
        (32, ["--embed", plain_uki], "refused: erofs: .*plain.efi: no composefs image"),
        (2, ["--embed", tmp_path / "none"], "none: No such file"),
    ):
        assert run("seal", *arguments, *end) == code
        told = capsys.readouterr().err
        assert re.search(said, told), told
    monkeypatch.setattr(uki_embed, "_LARGEST", 100)
    assert run("seal", "--embed", image, *end) == 1
    assert f"too large: {image.stat().st_size} bytes would stay" in capsys.readouterr().err
    assert not target.exists()


def test_sealed_again(plain_uki: Path, image: Path, tmp_path: Path, capsys: Capture) -> None:
    """The archive is replaced as a whole; what is no more there is said."""
    target = tmp_path / "out.efi"
    digest = of(image.read_bytes())
    assert run("seal", "--embed", image, plain_uki, "-o", target) == 0
    before = target.read_bytes()
    assert run("seal", "--replace", "--embed", image, target, "-o", target) == 0
    assert "embed" not in capsys.readouterr().err
    assert target.read_bytes() == before
    assert run("seal", "--replace", "--digest", digest, target, "-o", target) == 0
    said = f"warning: {target}: had an image in its initrd: give --embed again to keep one"
    assert said in capsys.readouterr().err
    assert Uki(target).embedded() is None


def test_one_that_is_part_of_the_initrd(tmp_path: Path, image: Path, capsys: Capture) -> None:
    """The boot finds it there, and refuses it unless it is named."""
    data = image.read_bytes()
    archive = write_cpio([Entry(EMBEDDED, S_IFREG | 0o644, data)])
    source = write(tmp_path / "in.efi", (".initrd", archive), (".cmdline", b"quiet"))
    target = tmp_path / "out.efi"
    assert run("seal", "--digest", ONE, source, "-o", target) == 32
    assert f"another image in its initrd ({EMBEDDED}), expected {ONE}" in capsys.readouterr().err
    assert not target.exists()
    assert run("seal", "--digest", of(data), source, "-o", target) == 0
    assert run("show", target) == 0
    assert f"  embedded: {of(data)}\n" in capsys.readouterr().out


@pytest.mark.parametrize("entry", [
    Entry(OBJECTS, S_IFDIR | 0o755), Entry(f"{OBJECTS}/ab/cd", S_IFREG | 0o444, b"x"),
])  # fmt: skip
def test_objects_that_are_part_of_the_initrd(
    tmp_path: Path, image: Path, capsys: Capture, entry: Entry
) -> None:
    """The boot would look for no disk, whatever is sealed behind them."""
    source = write(tmp_path / "in.efi", (".initrd", write_cpio([entry])), (".cmdline", b"quiet"))
    target = tmp_path / "out.efi"
    for more in (["--digest", ONE], ["--embed", image]):
        assert run("seal", *more, source, "-o", target) == 32
        assert f"objects in its initrd ({OBJECTS}), expected an" in capsys.readouterr().err
    assert not target.exists()


def test_an_image_without_objects_needs_no_disk_either(
    plain_uki: Path, store: Path, tmp_path: Path
) -> None:
    """The directory says so."""
    (tmp_path / "image").write_bytes(written.image(written.directory()))
    target = tmp_path / "out.efi"
    more = ["--embed", tmp_path / "image", "--embed-objects", store]
    assert run("seal", *more, plain_uki, "-o", target) == 0
    uki = Uki(target)
    initrd = uki.read(".initrd")
    assert initrd is not None
    entries, _ = read_cpio(initrd, uki.carried()[0].start)
    assert Entry(OBJECTS, S_IFDIR | 0o755) in entries


# ---- in a store


@pytest.mark.usefixtures("alone")
def test_its_objects_stay(store: Path, esp: Path, tmp_path: Path, capsys: Capture) -> None:
    """The store has none of the image itself, neither as a link nor as an object."""
    named, gone = add_image(store, [1, 2]), add_image(store, [2, 3])
    path = store / "images" / named
    image = path.resolve()
    data = image.read_bytes()
    uki = esp / "EFI/Linux/a.efi"
    archive = write_cpio([
        Entry(EMBEDDED, S_IFREG | 0o444, data),
        Entry(CARRIED, S_IFREG | 0o444, format_digests([as_digest(named)])),
    ])  # fmt: skip
    write(uki, (".initrd", archive))
    path.unlink()
    image.unlink()
    for refs in (store / "images/refs", store / "images"):
        for link in refs.iterdir() if refs.is_dir() else ():
            if link.is_symlink() and not link.exists():
                link.unlink()
    assert cfs_store.main(["images", "--json", "--uki", str(esp), str(store)]) == 0
    listed = {each["digest"]: each for each in json.loads(capsys.readouterr().out)}
    about = listed[str(as_digest(named))]
    assert (about["ukis"], about["size"]) == ([str(uki)], len(data))
    assert gc(store) == 0
    assert not (store / "images" / gone).is_symlink()
    # Put back, it has all that it needs.
    image.write_bytes(data)
    path.symlink_to(f"../objects/{named[:2]}/{named[2:]}")
    assert whole(store, named)


@pytest.mark.usefixtures("alone")
def test_a_list_whose_content_is_not_in_the_store(store: Path, esp: Path) -> None:
    """Its content is in the UKI, as that of all files of this root; the store has other images."""
    gone = add_image(store, [2, 3])
    listed = written.directory((b"a.conf", written.stored("cd" * 32, size=100)))
    for name in (b"images.d", b"cfs", b"lib", b"usr"):
        listed = written.directory((name, listed))
    data = written.image(listed)
    archive = write_cpio([
        Entry(EMBEDDED, S_IFREG | 0o444, data),
        Entry(CARRIED, S_IFREG | 0o444, format_digests([of(data)])),
    ])  # fmt: skip
    write(esp / "EFI/Linux/a.efi", (".initrd", archive))
    assert gc(store) == 0
    assert not (store / "images" / gone).is_symlink()


@pytest.mark.usefixtures("alone")
def test_an_image_that_is_not_the_one_that_is_named(
    store: Path, esp: Path, capsys: Capture
) -> None:
    """The boot would refuse it; nothing is kept by it, and so nothing goes."""
    add_image(store, [1])
    archive = write_cpio([
        Entry(EMBEDDED, S_IFREG | 0o444, image_of()),
        Entry(CARRIED, S_IFREG | 0o444, format_digests([ONE])),
    ])  # fmt: skip
    write(esp / "EFI/Linux/a.efi", (".initrd", archive))
    assert gc(store) == 32
    assert f"names {ONE}, which is not in {store}" in capsys.readouterr().err
