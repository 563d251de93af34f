# SPDX-License-Identifier: Apache-2.0 OR MIT
import json
import re
from typing import Any

import pytest

from pyinit.host.mountd import image, service
from pyinit.host.mountd.image import CannotMount, NoSuchImage
from pyinit.host.mountd.varlink import Call
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.root.digest import Digest

A = Digest(1, b"\xa1" * 32)
OF_ALL = "org.varlink.service"


def ask(method: str, **parameters: object) -> tuple[dict[str, Any], list[int], list[str]]:
    said: list[str] = []
    message, descriptors = service.answer(Call(method, parameters), said.append)
    return json.loads(message[:-1]), descriptors, said


def error(method: str, **parameters: object) -> tuple[str, dict[str, str]]:
    message, descriptors, _ = ask(method, **parameters)
    assert descriptors == []
    return message["error"], message["parameters"]


def test_what_it_says_of_itself() -> None:
    message, descriptors, said = ask(f"{OF_ALL}.GetInfo")
    assert message["parameters"]["interfaces"] == [OF_ALL, "io.cfs.Mount"]
    assert (descriptors, said) == ([], [])
    for interface in message["parameters"]["interfaces"]:
        message, _, _ = ask(f"{OF_ALL}.GetInterfaceDescription", interface=interface)
        text = message["parameters"]["description"]
        assert f"\ninterface {interface}\n" in text
        methods = {f"{interface}.{name}" for name in re.findall(r"(?m)^method (\w+)\(", text)}
        assert methods == {name for name in service._METHODS if name.startswith(interface)}


def test_every_error_is_described() -> None:
    described = {
        f"{interface}.{name}"
        for interface, text in service.DESCRIPTIONS.items()
        for name in re.findall(r"(?m)^error (\w+)\(", text)
    }
    assert described == {
        *(f"{OF_ALL}.{name}NotFound" for name in ("Interface", "Method")),
        f"{OF_ALL}.InvalidParameter", "io.cfs.Mount.NoSuchImage", "io.cfs.Mount.CannotMount",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "parameters", "expected"),
    [
        ("io.cfs.Mount.Umount", {}, ("MethodNotFound", {"method": "io.cfs.Mount.Umount"})),
        ("io.cfs.Other.Mount", {}, ("InterfaceNotFound", {"interface": "io.cfs.Other"})),
        ("Mount", {}, ("InterfaceNotFound", {"interface": ""})),
        ("", {}, ("InterfaceNotFound", {"interface": ""})),
        ("io.cfs.Mount.Mount", {}, ("InvalidParameter", {"parameter": "name"})),
        ("io.cfs.Mount.Mount", {"name": 1}, ("InvalidParameter", {"parameter": "name"})),
        ("io.cfs.Mount.Mount", {"name": None}, ("InvalidParameter", {"parameter": "name"})),
        (
            "io.cfs.Mount.Mount", {"name": "editor", "digest": "x"},
            ("InvalidParameter", {"parameter": "digest"}),
        ),
        (f"{OF_ALL}.GetInfo", {"x": ""}, ("InvalidParameter", {"parameter": "x"})),
        (f"{OF_ALL}.GetInfo", {"": ""}, ("InvalidParameter", {"parameter": ""})),
        (
            f"{OF_ALL}.GetInterfaceDescription", {"interface": "x"},
            ("InterfaceNotFound", {"interface": "x"}),
        ),
        (
            f"{OF_ALL}.GetInterfaceDescription", {"interface": []},
            ("InvalidParameter", {"parameter": "interface"}),
        ),
    ],
)  # fmt: skip
def test_what_is_no_call_of_ours(
    method: str, parameters: dict[str, object], expected: tuple[str, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delattr(image, "give")
    name, told = error(method, **parameters)
    assert (name.removeprefix(f"{OF_ALL}."), told) == expected


def test_a_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "give", lambda name: (A, 99))
    message, descriptors, said = ask("io.cfs.Mount.Mount", name="editor")
    assert message == {"parameters": {"digest": str(A), "fileDescriptor": 0}}
    assert (descriptors, said) == ([99], [f"editor: {A}"])


def test_why_is_told_to_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cause = Refused("source", "/usr/lib/x.conf", "unknown key")
    for raised, expected in (
        (NoSuchImage(), ("io.cfs.Mount.NoSuchImage", {})),
        (CannotMount("text"), ("io.cfs.Mount.CannotMount", {"reason": "text"})),
    ):

        def give(_name: str, raised: Exception = raised) -> None:
            raise raised from cause

        monkeypatch.setattr(image, "give", give)
        assert error("io.cfs.Mount.Mount", name="editor") == expected
        _, _, [said] = ask("io.cfs.Mount.Mount", name="editor")
        assert said.startswith("editor: ")
        assert str(cause) in said
