# SPDX-License-Identifier: Apache-2.0 OR MIT
"""modprobe.d, and parameters of modules on the kernel command line, divided by a line `--`."""

from pyinit.initrd.machine import modprobe
from pyinit.initrd.report.errors import Refused
from pyinit.initrd.source import cmdline


def check(data: bytes) -> None:
    text, _, line = data.partition(b"\n--\n")
    words = cmdline.parse(line)
    rules = modprobe.Rules()
    rules.read(text)
    parameters = words.of_modules()
    for module, parameter in parameters:
        # The kernel cuts it as it cuts its own line.
        [(name, value)] = cmdline.parse(parameter).parameters
        wanted = [
            (key.partition(".")[2], found)
            for key, found in words.parameters
            if key.partition(".")[0].replace("-", "_") == module
        ]
        assert (name, value) in wanted
    rules.command_line(words.all("modprobe.blacklist"), parameters)
    assert all(name and "," not in name for name in rules.blacklist)
    for name, given in rules.options.items():
        assert "-" not in name
        try:
            arguments = rules.arguments(name, "store")
        except Refused as error:
            assert str(error).isprintable()
            assert sum(map(len, given)) + len(given) - 1 > modprobe.ARGUMENTS_MAX
            continue
        assert len(arguments) <= modprobe.ARGUMENTS_MAX
        assert b"\0" not in arguments
    for before, after in rules.softdeps.values():
        assert not {"pre:", "post:", ""} & {*before, *after}
