# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Runs a command of the product by its name, as its console script does once installed."""

import importlib
import sys

COMMANDS = {
    "cfs-store": "pyinit.host.commands.cfs_store",
    "cfs-uki": "pyinit.host.commands.cfs_uki",
}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    sys.exit(importlib.import_module(COMMANDS[name]).main(arguments))
