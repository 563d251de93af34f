# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What `cfs-uki predict` prints: for people, as JSON, and in the forms that other tools take."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pyinit.host.commands.command import say
from pyinit.host.uki import predict
from pyinit.host.uki.predict import UKI_PCR, Prediction
from pyinit.host.uki.read import Uki
from pyinit.initrd.handover.status import readable
from pyinit.initrd.report.errors import UsageError, printable


def write_text(uki: Uki, found: list[Prediction]) -> None:
    """Every value, with the moment at which it is reached."""
    lines = [printable(str(uki.path))]
    for each in found:
        image = "" if each.image is None else f" of {each.image}"
        for moment in each.moments:
            lines.append(f"PCR {each.pcr}{image}, after {printable(moment.after)}:")
            lines += [f"  {bank:6} {value.hex()}" for bank, value in moment.values.items()]
    say(*lines)


def write_json(uki: Uki, profile: int, found: list[Prediction], assumed: list[str]) -> None:
    """The same with the single extensions, and with what is assumed."""
    version = predict.stub(uki)
    about: dict[str, Any] = {
        "file": str(uki.path),
        "profile": None if profile < 0 else profile,
        "stub": None if version is None else version[0],
        "pcrs": [
            {
                "pcr": each.pcr,
                "image": None if each.image is None else str(each.image),
                "moments": [
                    {"after": moment.after, "values": _hex(moment.values)}
                    for moment in each.moments
                ],
                "events": [
                    {"what": event.what, "digests": _hex(event.digests)} for event in each.events
                ],
            }
            for each in found
        ],
        "assumed": assumed,
    }
    say(json.dumps(readable(about), indent=2))


def _hex(values: dict[str, bytes]) -> dict[str, str]:
    return {bank: value.hex() for bank, value in values.items()}


def write_pcrlock(found: list[Prediction]) -> None:
    """A component of systemd-pcrlock: what this UKI alone extends PCRs by."""
    _one_image(found)
    records = [
        {
            "pcr": each.pcr,
            "digests": [
                {"hashAlg": bank, "digest": value.hex()} for bank, value in event.digests.items()
            ],
        }
        for each in found
        for event in each.events
        if not event.common
    ]
    say(json.dumps({"records": records}))


def write_values(options: argparse.Namespace, found: list[Prediction]) -> None:
    """The last value of each PCR, on one line."""
    _one_image(found)
    if len(found[0].banks) > 1:
        raise UsageError("usage", "--bank", f"{len(found[0].banks)} banks", "one")
    for each in found:
        if each.pcr == UKI_PCR and len(options.phases) != 1:
            expected = "one, such as enter-initrd:leave-initrd (: for none)"
            raise UsageError("usage", "--phase", f"given {len(options.phases)} times", expected)
    bank = found[0].banks[0]
    values = [(each.pcr, each.moments[-1].values[bank].hex()) for each in found]
    if options.format == "cryptenroll":
        say("+".join(f"{pcr}:{bank}={value}" for pcr, value in values))
    else:
        say(f"{bank}:" + ",".join(f"{pcr}={value}" for pcr, value in values))


def _one_image(predictions: list[Prediction]) -> None:
    images = [each.image for each in predictions if each.image is not None]
    if len(images) > 1:
        found = f"not given, and the UKI names {len(images)} images"
        raise UsageError("usage", "--digest", found, "one of them")
