# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The root in a PCR of a real TPM 2.0 (swtpm), by the kernel's driver."""

import contextlib
import hashlib
import json
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pyinit.host.uki import predict
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import config
from pyinit.initrd.source.config import Config

from .cases import Case, Results, run_cases
from .extension_disk import make_extension_disk
from .guest import Disk, Tpm, allocate_banks, swtpm
from .initrd import GUEST_MODULES, HASH_MODULES
from .product import cfs_init
from .rootdisk import CARRIED, RootDisk, make_rootdisk
from .toolbox import Toolbox
from .tools import tpm_proxy

KILLED = "its TPM is killed now"
_PROGRAM = "usr/bin/cfs-setup-root"
_SHELL = r"""
pcrs() {
    for bank in /sys/class/tpm/tpm0/pcr-*; do
        echo "$1 ${bank##*/pcr-} $(cat $bank/${2:-15} | tr A-F a-f)"
    done
}
boot() { mount --bind /disk /sysroot && cfs-setup-root --sysroot /sysroot --config /etc/$1; }
down() { umount -l /sysroot; umount -l /sysroot; rm -rf /run/cfs; }
log=/run/log/systemd/tpm2-measure.log
"""
MEASURE = """
pcrs before
boot measure.conf || exit
pcrs after
echo "record $(cat /run/cfs/root.json)"
echo "mode $(stat -c %a $log)"
echo "log $(tail -n 1 $log)"
down
"""
# A second TPM in place of the first, which answers to TPM2_PCR_Extend as this says.
PROXY = """
number=$(tpm-proxy {fault}) || exit
until [ -e /dev/tpmrm$number ]; do sleep 0.1; done
mount --bind /dev/tpmrm$number /dev/tpmrm0
boot required.conf; echo code $?; ls /sysroot; umount /sysroot
boot measure.conf || exit; echo record $(cat /run/cfs/root.json); down
chmod 600 $log
umount /dev/tpmrm0; killall tpm-proxy
while [ -e /dev/tpmrm$number ]; do sleep 0.1; done
"""
FAULTS = {
    "never": r"/dev/tpmrm0: Timer expired \(ETIME\)",
    "cut": r"/dev/tpmrm0: .* \(E\w+\)",
    "long": r"/dev/tpmrm0: .* \(E\w+\)",
    "error": r"TPM2_PCR_Extend: it answers TPM_RC_FAILURE: .*",
    "other": r"TPM2_PCR_Extend: a malformed answer",
}
# Each in turn: the PCR goes on from where the one before has left it.
CASES = {
    "measured": MEASURE,
    "again": MEASURE + 'echo "records $(grep -c composefs: $log)"\n',
    "off": "pcrs before; boot off.conf || exit; pcrs after; echo record $(cat /run/cfs/root.json)"
    "; down; echo records $(grep -c composefs: $log)",
    "other-pcr": "pcrs before 8; boot eight.conf || exit; pcrs after 8"
    "; echo record $(cat /run/cfs/root.json); down",
    # another program was killed between the TPM and the log
    "incomplete-log": "chmod 1600 $log; boot required.conf || exit; down; chmod 600 $log"
    "; echo records $(grep -c composefs: $log)",
    "another-device": "mount --bind /dev/null /dev/tpmrm0; pcrs before; boot required.conf"
    "; echo code $?; ls /sysroot; pcrs after; umount /sysroot /dev/tpmrm0",
    "no-device": "mv /dev/tpmrm0 /dev/away; boot measure.conf || exit; echo record"
    " $(cat /run/cfs/root.json); down; boot required.conf; echo code $?; ls /sysroot"
    "; umount /sysroot; mv /dev/away /dev/tpmrm0",
    # the disk of extension_disk.py
    "extensions": "mount -t ext4 -o ro /dev/vdb /second && mount --bind /second /sysroot || exit"
    f"; cp /{CARRIED} /kept; cp /guest/extensions /{CARRIED}; pcrs before"
    "; cfs-setup-root --sysroot /sysroot --config /etc/measure.conf || exit; pcrs after"
    "; echo record $(cat /run/cfs/root.json); umount /run/extensions/* /run/confexts/*; down"
    f"; umount /second; cp /kept /{CARRIED}; rm -r /run/extensions /run/confexts",
    **{f"proxy-{fault}": PROXY.format(fault=fault) for fault in FAULTS},
    "killed": f"""
echo "{KILLED}" >/dev/console
while [ "$(cat /sys/class/tpm/tpm0/pcr-sha256/15 2>/dev/null)" ]; do sleep 0.1; done
boot required.conf; echo code $?; umount /sysroot
boot measure.conf || exit; echo record $(cat /run/cfs/root.json); down
""",
}
EXTENSIONS = {"sysext_debug": "debug", "confext_site": "site"}
STRING = "composefs:/:sha256:{}:carried"


@pytest.fixture(scope="module")
def rootdisk(toolbox: Toolbox) -> RootDisk:
    return make_rootdisk(toolbox)


def _settings(pcr: str, required: bool) -> bytes:
    settings = Config()
    settings.etc = settings.var = "none"
    settings.measure_pcr, settings.measure_required = pcr, required
    return config.format(settings)


@contextlib.contextmanager
def _killed_when_told(tpm: Tpm, log: Path) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            if log.exists() and KILLED in log.read_text(errors="replace"):
                tpm.process.kill()
                return
            time.sleep(0.1)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


_NEWEST = pytest.param("newest", marks=pytest.mark.all_only)


@pytest.fixture(scope="module", params=["stable", _NEWEST])
def results(
    toolbox: Toolbox, rootdisk: RootDisk, request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Results]:  # fmt: skip
    log = tmp_path_factory.mktemp("pcr") / "console"
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tpm-")))
        tpm = stack.enter_context(swtpm(toolbox, work / "state", work))
        stack.enter_context(_killed_when_told(tpm, log))
        yield _run(toolbox, request.param, rootdisk, CASES, tpm, log)


def _run(
    toolbox: Toolbox, role: str, rootdisk: RootDisk, cases: Mapping[str, str], tpm: Tpm, log: Path
) -> Results:
    extensions = make_extension_disk(toolbox)
    files: Mapping[str, bytes | str | Path] = {
        "guest/extensions": extensions.carried(**EXTENSIONS),
        _PROGRAM: cfs_init(),
        "usr/bin/tpm-proxy": tpm_proxy(),
        CARRIED: rootdisk.carried("whole"),
        "etc/off.conf": _settings("none", False),
        "etc/measure.conf": _settings("15", False),
        "etc/required.conf": _settings("15", True),
        "etc/eight.conf": _settings("8", False),
    }
    return run_cases(
        toolbox,
        toolbox.kernel(role),
        [Case(name, _SHELL + script, limit=60) for name, script in cases.items()],
        setup="mkdir -p /disk /second /sysroot && mount -t ext4 -o ro /dev/vda /disk",
        modules=(*GUEST_MODULES, *HASH_MODULES, "tpm_vtpm_proxy"),
        disks=[
            Disk(rootdisk.disk("ext4"), discard_writes=True),
            Disk(extensions.disk("ext4"), read_only=True),
        ],
        files=files,
        log=log,
        arguments=tpm.arguments,
    )


def _said(text: str, key: str) -> list[str]:
    lines = text.split("\n")  # and not at the record separator of the log
    return [line[len(key) + 1 :] for line in lines if line.startswith(f"{key} ")]


def _banks(text: str, key: str) -> dict[str, bytes]:
    found = (line.split() for line in _said(text, key))
    return {bank: bytes.fromhex(value) for bank, value in found}


def _extended(before: Mapping[str, bytes], string: str) -> dict[str, bytes]:
    """By libcrypto: the new value of each bank."""
    new = {}
    for bank, value in before.items():
        measured = hashlib.new(bank, string.encode()).digest()
        new[bank] = hashlib.new(bank, value + measured).digest()
    return new


@pytest.mark.parametrize("name", ["measured", "again"])
def test_every_bank_is_extended_and_logged(results: Results, rootdisk: RootDisk, name: str) -> None:
    text = results.check(name).stdout
    string = STRING.format(rootdisk.digests["whole"])
    before, after = _banks(text, "before"), _banks(text, "after")
    assert {"sha1", "sha256"} < set(before)
    assert after == _extended(before, string)
    if name == "measured":
        assert not any(b"".join(before.values()))
        image = Digest.parse(rootdisk.digests["whole"], "a test")
        predicted = predict.root(15, image, "carried", list(before))
        assert predicted.moments[0].values == after
    else:
        assert _said(text, "records") == ["2"]
    [record] = map(json.loads, _said(text, "record"))
    assert record["measured"] == {"pcr": 15, "banks": list(before), "string": string}
    assert _said(text, "mode") == ["600"]
    [line] = _said(text, "log")
    assert line[0] == "\x1e"
    logged = json.loads(line[1:])
    assert {entry["hashAlg"]: entry["digest"] for entry in logged["digests"]} == {
        bank: hashlib.new(bank, string.encode()).hexdigest() for bank in before
    }


def test_nothing_is_extended_where_no_pcr_is_configured(results: Results) -> None:
    text = results.check("off").stdout
    assert _banks(text, "before") == _banks(text, "after")
    [record] = map(json.loads, _said(text, "record"))
    assert record["measured"] is None
    assert _said(text, "records") == ["2"]


def test_another_pcr(results: Results, rootdisk: RootDisk) -> None:
    text = results.check("other-pcr").stdout
    string = STRING.format(rootdisk.digests["whole"])
    assert _banks(text, "after") == _extended(_banks(text, "before"), string)


def test_extensions_extend_it_behind_the_root(results: Results, toolbox: Toolbox) -> None:
    """As `cfs-uki predict` counts them."""
    text = results.check("extensions").stdout
    made = make_extension_disk(toolbox)
    digests = {name: Digest.parse(hex_, "a test") for name, hex_ in made.digests.items()}
    named = {"confext.site": digests["site"], "sysext.debug": digests["debug"]}
    values = _banks(text, "before")
    predicted = predict.root(15, digests["root"], "carried", list(values), others=named)
    for event in predicted.events:
        values = _extended(values, event.what)
    assert _banks(text, "after") == values
    [record] = map(json.loads, _said(text, "record"))
    assert [
        each["measured"]["string"] for each in (record, *record["extensions"].values())
    ] == [event.what for event in predicted.events]  # fmt: skip


def test_a_log_that_lacks_something_is_left_alone(results: Results) -> None:
    result = results.check("incomplete-log")
    assert _said(result.stdout, "records") == ["3"]  # with that of PCR 8
    assert "tpm2-measure.log: the measurement is not logged: another program" in result.stderr


def test_another_device_in_place_of_the_tpm(results: Results) -> None:
    """It takes each command and says nothing. Nothing of the root is seen."""
    result = results.check("another-device")
    assert _said(result.stdout, "code") == ["32"]
    assert "refused: measure: PCR 15: TPM2_GetCapability: an answer of 0 bytes" in result.stderr
    assert "composefs" in result.stdout  # the disk, at /sysroot
    assert _banks(result.stdout, "before") == _banks(result.stdout, "after")


def test_no_tpm(results: Results) -> None:
    result = results.check("no-device")
    [record] = map(json.loads, _said(result.stdout, "record"))
    assert record["measured"]["banks"] == []
    assert record["measured"]["fault"].startswith("no TPM 2.0, or no driver for it: /dev/tpmrm0: ")
    assert "warning: the root is not measured into PCR 15: no TPM 2.0" in result.stderr
    assert _said(result.stdout, "code") == ["32"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_tpm_that_answers_wrong_or_never(results: Results, fault: str) -> None:
    """The driver has a time limit. What it does not find itself, we do."""
    result = results.check(f"proxy-{fault}")
    assert _said(result.stdout, "code") == ["32"]
    assert "composefs" in result.stdout  # the disk, at /sysroot
    [record] = map(json.loads, _said(result.stdout, "record"))
    assert record["measured"]["banks"] == []
    assert re.fullmatch(FAULTS[fault], record["measured"]["fault"])
    assert f"refused: measure: PCR 15: {record['measured']['fault']}, expected" in result.stderr


def test_a_tpm_that_dies(results: Results) -> None:
    """The driver says so, and does not wait for ever."""
    result = results.check("killed")
    assert _said(result.stdout, "code") == ["32"]
    assert "refused: measure: PCR 15: " in result.stderr
    [record] = map(json.loads, _said(result.stdout, "record"))
    assert record["measured"]["banks"] == []


@pytest.mark.all_only
@pytest.mark.parametrize("banks", ["sha1", "sha1,sha256", "sha384"])
def test_a_tpm_with_fewer_banks(
    toolbox: Toolbox, rootdisk: RootDisk, tmp_path: Path, banks: str
) -> None:
    """All that there are. SHA-1 alone proves nothing."""
    required = "boot required.conf; echo code $?; down 2>/dev/null"
    cases = {"measured": MEASURE, "required": required}
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tpm-")))
        allocate_banks(toolbox, work / "state", banks)
        tpm = stack.enter_context(swtpm(toolbox, work / "state", work))
        results = _run(toolbox, "stable", rootdisk, cases, tpm, tmp_path / "console")
    measured, needed = (results.check(name) for name in cases)
    before, after = (_banks(measured.stdout, key) for key in ("before", "after"))
    [record] = map(json.loads, _said(measured.stdout, "record"))
    assert set(before) == set(banks.split(","))
    if banks == "sha1":
        assert after == before
        assert record["measured"]["banks"] == []
        warning = "warning: the root is not measured into PCR 15: a bank of SHA-1 alone"
        assert warning in measured.stderr
        assert _said(needed.stdout, "code") == ["32"]
        assert "refused: measure: PCR 15: a bank of SHA-1 alone" in needed.stderr
        return
    assert after == _extended(before, STRING.format(rootdisk.digests["whole"]))
    assert record["measured"]["banks"] == list(before)
    assert _said(needed.stdout, "code") == ["0"]
