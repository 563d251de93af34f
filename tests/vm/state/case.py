# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One case: a script, and the configuration that it is run with.

cfs-setup-root composes the root over the disk at /disk, in the mount namespace of the case; "again"
is a second run after all is unmounted. Each case has its state at /state/<case>/<digest>/.
"""

from dataclasses import dataclass

from pyinit.initrd.source import config
from tests.vm.cases import Case
from tests.vm.product import refusal

# Names in front of each script. What "down" unmounts is only what "up" mounted.
PRELUDE = """
up() {{ cfs-setup-root --sysroot ${{1:-/disk}} --config /guest/configuration/{name}; }}
down() {{
    for name in etc var sysroot; do
        ! cut -d' ' -f5 /proc/self/mountinfo | grep -qx "${{1:-/disk}}/$name" ||
        umount ${{1:-/disk}}/$name
    done
    ! grep -q " ${{1:-/disk}} .* - overlay [a-z:]*composefs[:=]" /proc/self/mountinfo ||
    umount ${{1:-/disk}}
}}
record() {{ cat /run/cfs/root.json; }}
# until the children are gone that remove what earlier boots left
settled() {{ while pidof cfs-setup-root >/dev/null; do usleep 20000; done; }}
S=/disk D={digest} Q=/disk/state/{name}/{digest}
"""
AT_END = "\ncode=$?\n{end}exit $code\n"


@dataclass(frozen=True)
class Setup:
    """A case and its configuration."""

    case: Case
    settings: config.Config


def case(
    name: str,
    script: str,
    *,
    code: int = 0,
    stdout: str | None = None,
    stderr: str | None = None,
    end: str = "down\n",
    **values: str | int | bool,
) -> Setup:
    settings = config.Config()
    settings.store = "/repo"
    settings.state_etc = f"/state/{name}/{{digest}}/etc"
    settings.state_var = f"/state/{name}/{{digest}}/var"
    for key, value in values.items():
        assert hasattr(settings, key)
        setattr(settings, key, value)
    config.parse(config.format(settings), name)
    whole = PRELUDE.format(name=name, digest="$DIGEST") + script + AT_END.format(end=end)
    return Setup(Case(name, whole, limit=60, code=code, stdout=stdout, stderr=stderr), settings)


def refused(name: str, path: str, found: str, expected: str = "", step: str = "state") -> str:
    return refusal(
        step, f"/state/{name}/[0-9a-f]{{64}}{path}", found, expected, program="cfs-setup-root"
    )
