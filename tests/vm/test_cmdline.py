# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The command line as we cut it, and as the kernel did: what it does not know it hands to PID 1.

A parameter without a value becomes an argument of init, one with a value a variable of its
environment, and what stands after `--` an argument (init/main.c). Those are read back.
"""

import random

import pytest

from pyinit.initrd.source import cmdline

from .cases import Case, LazyResults, run_cases
from .toolbox import Toolbox

pytestmark = pytest.mark.vm

# At most that many of each, else the kernel panics (CONFIG_INIT_ENV_ARG_LIMIT), in a line of 2 KiB.
LIMIT = 30
SIZE = 1800

BY_HAND = (
    b'xa "xb" x"c" xd"e f"g xh=1 xi="2" xj="3 4" "xk=5 6" "xl m"=7 xn="" xo= xp=q" r" xs="t"u '
    b'xv=""w"" "xw="y"" =xz "=x1" "=x2=3" "" x4=5=6 x-7_8=9 x-7_8=10 x.9 x.a=b xb=.c "x.d=e f" '
    b"xe=\xc3\xa9 xf=\xc3\xa0g xh\xa0xi xj\txk\nxl\vxm\fxn\rxo \xff=\xfe x\\ p x'q r' x;s x$t"
    b' x--u --xv --=xw -- xx "xy z"=1 =x2="3 4" "x5=6 7" x.8 "" x9=a="b c" -- xd'
)


def _arguments(line: bytes) -> list[str]:
    """What stands after a `--`, up to another one."""
    words = list(cmdline._words(line))
    after = cmdline.parse(b" ".join(words[len(cmdline.parse(line).words) + 1 :]))
    return [key if value is None else f"{key}={value}" for key, value in after.parameters]


def _words(seed: int) -> bytes:
    """Words of the characters that matter; a quote in one may hide the end of it."""
    draw = random.Random(seed)
    line = b""
    while True:
        size = draw.randrange(9)
        word = b"x" + bytes(
            draw.choices(b'ab"= \t\xa0-_.\xff', [3, 2, 6, 4, 2, 1, 1, 1, 1, 1, 1], k=size)
        )
        longer = line + draw.choice((b" ", b'"', b'" "', b"  ")) + word
        found = cmdline.parse(longer)
        values = [value for _, value in found.parameters]
        count = values.count(None) + len(_arguments(longer))
        most = max(count, len(values) - values.count(None))
        if most > LIMIT or len(longer) > SIZE:
            return line
        line = longer


LINES = {
    "by hand": ("stable", BY_HAND),
    "random": ("stable", _words(1)),
    "random, newest kernel": ("newest", _words(2) + b' xa -- xb "xc=d"e" xf="open'),
}

READ = "".join(f"xxd -p -c 65536 /proc/{name}; " for name in ("cmdline", "1/cmdline", "1/environ"))


@pytest.mark.parametrize(
    "name", ["by hand", "random", pytest.param("random, newest kernel", marks=pytest.mark.newest)]
)
def test_the_kernel_cuts_it_the_same_way(toolbox: Toolbox, name: str) -> None:
    role, line = LINES[name]
    text = line.decode("utf-8", "surrogateescape")
    guest = LazyResults(
        lambda: run_cases(toolbox, toolbox.kernel(role), [Case("read", READ)], append=text)
    )
    shown, arguments, environment = map(bytes.fromhex, guest.check("read").stdout.splitlines())
    assert shown.endswith(line + b"\n")

    found = cmdline.parse(shown.removesuffix(b"\n"))
    # A dot makes it a parameter of a module. Those that the guests always get have a meaning.
    unknown = [
        (key, value)
        for key, value in found.parameters
        if "." not in key and key not in ("console", "panic", "loglevel", "no_timer_check")
    ]
    # The interpreter of the script and the script come first.
    expected = [key for key, value in unknown if value is None] + _arguments(line)
    assert _strings(arguments)[3:] == expected
    variables = {"HOME": "/", "TERM": "linux"} | {
        key: value for key, value in unknown if value is not None
    }
    assert _strings(environment) == [f"{key}={value}" for key, value in variables.items()]
    assert len(expected) > 10
    assert len(variables) > 10


def _strings(data: bytes) -> list[str]:
    return [part.decode("utf-8", "surrogateescape") for part in data.split(b"\0")[:-1]]
