# SPDX-License-Identifier: Apache-2.0 OR MIT
"""modules.dep, modules.alias, modules.softdep and device identities, divided by lines `--`."""

from pyinit.initrd.machine import modalias, modules
from pyinit.initrd.machine.modprobe import Rules

_LONG = 200


def check(data: bytes) -> None:
    parts = (data.split(b"\n--\n", 3) + [b""] * 4)[:4]
    dep = modules.parse_dep(parts[0])
    for name, (path, needs) in dep.items():
        assert modules.name_of(path) == name
        assert all("/" not in need and "-" not in need for need in (name, *needs))
    _check_order(dep)
    rules = Rules()
    rules.read(parts[2])
    for before, after in rules.softdeps.values():
        assert not {"pre:", "post:", ""} & {*before, *after}
    devices = parts[3].decode("latin-1").split("\n")[:20]
    for start, pattern, name in modules.parse_alias(parts[1])[:50]:
        assert "-" not in name
        for device in devices:
            text = modalias.normal(device[:_LONG])
            if modalias.match(pattern[:_LONG], text):
                assert text.startswith(start[:_LONG])


def _check_order(dep: dict[str, tuple[str, list[str]]]) -> None:
    def needs(name: str) -> list[str]:
        return dep[name][1] if name in dep else []

    names = list(dep)
    loose = modules.order(names, needs, strict=False)
    assert len(set(loose)) == len(loose)
    assert set(names) <= set(loose)
    try:
        strict = modules.order(names, needs)
    except ValueError as error:
        assert "needs itself" in str(error)
        return
    place = {name: at for at, name in enumerate(strict)}
    assert strict == loose
    assert all(place[need] < place[name] for name in strict for need in needs(name))
