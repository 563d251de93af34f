# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`cfs-uki predict`: what PCRs will hold, for people and in the forms that other tools take."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pyinit.host.commands.command import Parser, complain, warn
from pyinit.initrd.report.errors import EXIT_OK, UsageError, printable

# What a verb needs is imported by the verb: `--version` and a typo are told at once.
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyinit.host.uki.predict import Prediction
    from pyinit.host.uki.read import Uki
    from pyinit.initrd.root.digest import Digest
    from pyinit.initrd.source.config import Config

NAME = "cfs-uki"

_LOADER, _UKI, _PARAMETERS = 4, 11, 12
_CONFIGURABLE = range(8, 16)
_BANKS = ("sha1", "sha256", "sha384", "sha512")
_FORMATS = ("cryptenroll", "pcrlock", "tpm2-tools")
_BANK = "sha256"  # of the forms that have one
_NAMED_BY = {"carried": "a file in the initrd", "cmdline": "the command line"}
_SHARED = (12, 13, 15)  # PCRs that systemd extends from its own units too
# Options that say something of one PCR; None: of the root's. Elsewhere they would change nothing.
_SAY_OF = {
    "phases": ("--phase", _UKI),
    "loaders": ("--loader", _LOADER),
    "secure_boot": ("--secure-boot", _LOADER),
    "os_separator": ("--os-separator", _LOADER),
    "digest": ("--digest", None),
    "source": ("--source", None),
    "soft_reboots": ("--soft-reboot", None),
}


def add_options(verb: Parser) -> None:
    """Those of the verb."""
    verb.add_argument(
        "--pcr", dest="pcrs", metavar="PCR", type=int, action="append", default=[],
        choices=(_LOADER, *_CONFIGURABLE),
        help="predict these and no others; by default 4, 11 and the root's ([measure] pcr)",
    )  # fmt: skip
    verb.add_argument(
        "--bank", dest="banks", action="append", choices=_BANKS, default=[],
        help="a bank of the TPM; by default all, or sha256 where the format has one",
    )  # fmt: skip
    verb.add_argument(
        "--phase", dest="phases", metavar="PHASES", action="append", default=[],
        help="for PCR 11, as systemd-measure takes them: enter-initrd:leave-initrd",
    )  # fmt: skip
    verb.add_argument(
        "--profile", metavar="N", type=int, help="of the UKI; by default the first one, 0"
    )
    verb.add_argument(
        "--digest", metavar="DIGEST", help="the image that is composed, of those that the UKI names"
    )
    verb.add_argument(
        "--source", choices=("carried", "cmdline", "uki"), help="what names the image"
    )
    verb.add_argument(
        "--soft-reboot", dest="soft_reboots", metavar="FILE|DIGEST", action="append", default=[],
        help="a soft reboot into this image, or that of this UKI, is prepared after it",
    )  # fmt: skip
    verb.add_argument(
        "--loader", dest="loaders", metavar="FILE", action="append", default=[],
        help="for PCR 4: a boot loader that is started before; several in their order",
    )  # fmt: skip
    verb.add_argument(
        "--secure-boot", choices=("yes", "no"),
        help="for PCR 4: is it on? By default where the UKI is signed",
    )  # fmt: skip
    verb.add_argument(
        "--os-separator", action="store_true",
        help="for PCR 4: the initrd has systemd 261 or later",
    )  # fmt: skip
    form = verb.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--format", choices=_FORMATS, help="print what that program takes")
    verb.add_argument("file", metavar="FILE", help="the UKI")


def predict(options: argparse.Namespace) -> int:
    """The verb."""
    from pathlib import Path

    from pyinit.host.commands import uki_predict_output as output
    from pyinit.host.uki import settings
    from pyinit.host.uki.predict import BANKS
    from pyinit.host.uki.read import Uki

    uki = Uki(Path(options.file))
    profile = _profile(uki, options.profile)
    known = settings.find(uki, profile)
    pcrs = set(options.pcrs) or {_LOADER, _UKI}
    root = _root_pcr(uki, known, options.pcrs)
    if root is not None:
        pcrs.add(root)
    if root == _PARAMETERS and profile > 0:
        raise uki.refused(
            "PCR 12 does not begin with zeros in a profile other than the first",
            "--profile 0, or another PCR in [measure] pcr",
        )
    _check_options(options, pcrs, root)
    one = options.format in ("cryptenroll", "tpm2-tools")
    banks = tuple(dict.fromkeys(options.banks)) or ((_BANK,) if one else BANKS)
    found = list(_predictions(options, uki, profile, known, pcrs=pcrs, banks=banks))
    assumed = list(_assumed(options, uki, profile, known, pcrs))
    # A component of systemd-pcrlock stands beside others.
    if root is not None and not pcrs & {_LOADER, _UKI} and options.format != "pcrlock":
        warn(NAME, f"PCR {root} alone proves nothing, since any system can extend it by the same: "
                   f"for a key give --pcr {_LOADER} --pcr {_UKI} too")  # fmt: skip
    if options.json:
        output.write_json(uki, profile, found, assumed)
        return EXIT_OK
    if options.format == "pcrlock":
        output.write_pcrlock(found)
    elif one:
        output.write_values(options, found)
    else:
        output.write_text(uki, found)
    for text in assumed:
        complain(NAME, f"assumed: {printable(text)}")
    return EXIT_OK


def _check_options(options: argparse.Namespace, pcrs: set[int], root: int | None) -> None:
    """UsageError: one would change nothing."""
    for name, (option, pcr) in _SAY_OF.items():
        if getattr(options, name) and (root if pcr is None else pcr) not in pcrs:
            number = root if pcr is None else pcr
            which, wanted = ("the PCR of the root", "--pcr with its number")
            if number is not None:
                which, wanted = f"PCR {number}", f"--pcr {number}"
            found = f"given, and {which} is not predicted"
            raise UsageError("usage", option, found, f"{wanted} too, or none of it")


def _profile(uki: Uki, number: int | None) -> int:
    import _cfs

    from pyinit.host.uki import predict

    if number is None:
        number = 0 if uki.profiles else _cfs.PE_BASE
    elif not 0 <= number < uki.profiles:
        raise uki.refused(f"no profile {number}", f"one of its {uki.profiles}, from 0 on")
    predict.check_profile(uki, number)
    return number


def _root_pcr(uki: Uki, known: Config | None, given: list[int]) -> int | None:
    """The PCR of the root, None where it is not asked for. Refused: there is none, or another."""
    asked = [pcr for pcr in dict.fromkeys(given) if pcr not in (_LOADER, _UKI)]
    if len(asked) > 1:
        found = f"the root in two PCRs, {asked[0]} and {asked[1]}"
        raise UsageError("usage", "--pcr", found, "one beside 4 and 11")
    if given and not asked and not (known and known.measure_pcr == str(_UKI) and _UKI in given):
        return None
    if known is None:
        if not asked:
            expected = "--pcr N, the one of [measure] pcr"
            raise uki.refused("the configuration of its initrd is not to be seen", expected)
        return asked[0]
    if known.measure_pcr == "none":
        expected = "[measure] pcr in its configuration; or --pcr 4 --pcr 11 alone"
        raise uki.refused("its initrd measures the root into no PCR", expected)
    if known.measure_pcr == str(_UKI):
        found = "its root goes into PCR 11, beside what systemd measures"
        raise uki.refused(found, "another PCR in [measure] pcr")
    if asked and known.measure_pcr != str(asked[0]):
        raise uki.refused(f"its initrd measures the root into PCR {known.measure_pcr}",
                          f"PCR {asked[0]}, as --pcr says")  # fmt: skip
    return int(known.measure_pcr)


def _predictions(
    options: argparse.Namespace, uki: Uki, profile: int, known: Config | None, *,
    pcrs: set[int], banks: tuple[str, ...],
) -> Iterator[Prediction]:  # fmt: skip
    from pathlib import Path

    from pyinit.host.uki import predict, settings

    for pcr in sorted(pcrs):
        if pcr == _LOADER:
            yield predict.boot_loader(
                uki, [Path(file) for file in options.loaders], banks, profile=profile,
                secure_boot=_secure_boot(options, uki), os_separator=options.os_separator,
            )  # fmt: skip
        elif pcr == _UKI:
            phases = [_words(phase) for phase in options.phases] or predict.PHASES
            yield predict.sections(uki, banks, profile=profile, phases=phases)
        else:
            images, source = _images(options, uki, profile, known)
            after = [_prepared(text) for text in options.soft_reboots]
            others = settings.others(uki, profile, source)
            for image in images:
                yield predict.root(pcr, image, source, banks, after, others=others)


def _words(phase: str) -> tuple[str, ...]:
    """As systemd-measure: words between colons, none where there are colons alone."""
    return tuple(word for word in phase.split(":") if word)


def _images(
    options: argparse.Namespace, uki: Uki, profile: int, known: Config | None
) -> tuple[list[Digest], str]:
    from pyinit.host.uki import settings
    from pyinit.initrd.root.digest import Digest

    images, source = settings.images(uki, profile, known, options.source)
    if options.digest is not None:
        image = Digest.parse(options.digest, "--digest")
        if images and image not in images:
            found = f"names another image, {' '.join(map(str, images))}"
            raise uki.refused(found, f"{image}, as --digest says")
        return [image], source
    if not images:
        raise uki.refused("no digest is to be seen in it", "a sealed UKI, or --digest")
    return images, source


def _prepared(text: str) -> Digest:
    """The image of a soft reboot."""
    import _cfs
    from pathlib import Path

    from pyinit.host.uki import settings
    from pyinit.host.uki.read import Uki
    from pyinit.initrd.root.digest import Digest

    path = Path(text)
    if not path.exists():
        return Digest.parse(text, "--soft-reboot")
    other = Uki(path)
    sources = ("carried", "uki", "cmdline")
    named = (settings.images(other, _cfs.PE_BASE, None, each)[0] for each in sources)
    images: list[Digest] = next(filter(None, named), [])
    if len(images) != 1:
        raise other.refused(f"names {len(images)} images", "one, or its digest for --soft-reboot")
    return images[0]


def _secure_boot(options: argparse.Namespace, uki: Uki) -> bool:
    if options.secure_boot is None:
        return uki.signed
    return bool(options.secure_boot == "yes")


def _assumed(
    options: argparse.Namespace, uki: Uki, profile: int, known: Config | None, pcrs: set[int]
) -> Iterator[str]:
    """What is not known from the files."""
    if _LOADER in pcrs:
        yield from _assumed_of_loader(options, uki)
    if _UKI in pcrs:
        yield from _assumed_of_uki(options, uki)
        if known is None and pcrs <= {_LOADER, _UKI}:
            yield "PCR 11: the initrd does not measure the root into it"
    for pcr in pcrs - {_LOADER, _UKI}:
        yield from _assumed_of_root(options, uki, profile, known, pcr)


def _assumed_of_loader(options: argparse.Namespace, uki: Uki) -> Iterator[str]:
    from pyinit.host.uki import predict

    first = options.loaders[0] if options.loaders else uki.path
    yield f"PCR 4: the firmware starts {first} at once, and loads no driver, add-on or shell"
    version = predict.stub(uki)
    if version is None:
        yield "PCR 4: its stub is not systemd's, and does not measure the kernel a second time"
    elif predict.kernel_is_measured(uki, False):
        state = "on" if _secure_boot(options, uki) else "off"
        yield f"PCR 4: Secure Boot is {state}; for the stub, systemd {version[1]}, it matters"
    if not options.os_separator:
        yield "PCR 4: the initrd has no systemd, or one before 261"


def _assumed_of_uki(options: argparse.Namespace, uki: Uki) -> Iterator[str]:
    from pyinit.host.uki import predict

    version, newest = predict.stub(uki), f"systemd-stub {predict.NEWEST_STUB}"
    if version is None:
        yield f"PCR 11: its stub, which is not systemd's, measures what {newest} does"
    elif version[1] > predict.NEWEST_STUB:
        yield f"PCR 11: its stub, systemd {version[1]}, measures what {newest} does"
    if not options.phases:
        yield "PCR 11: systemd is in the initrd, and measures the phases"


def _assumed_of_root(
    options: argparse.Namespace, uki: Uki, profile: int, known: Config | None, pcr: int
) -> Iterator[str]:
    from pyinit.host.uki import settings
    from pyinit.initrd.source.payload import INITRD

    _, source = _images(options, uki, profile, known)
    if pcr in _SHARED:
        yield f"PCR {pcr}: nothing else extends it, though systemd does: see cfs-uki(8)"
    if INITRD in settings.others(uki, profile, source):
        yield f"PCR {pcr}: the second initrd measures the root into it too"
    if known is not None and known.extensions_missing == "skip":
        yield f"PCR {pcr}: the store has all extensions that the UKI names"
    if known is None:
        yield f"PCR {pcr}: the initrd measures the root into it"
    if not settings.source_is_said(uki, profile, known, options.source):
        yield f"PCR {pcr}: {_NAMED_BY[source]} names the root (--source {source})"
