# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`make demo`: builds a Debian root, seals it, boots it by its digest, then shows the refusals."""

import os
import subprocess
import sys

from tests.demo.build import build
from tests.demo.progress import Failed, say, show_failure
from tests.demo.show import refuse_changed_image, refuse_changed_object, refuse_other_image, run
from tests.vm.apt import PackageError
from tests.vm.cases import CaseError
from tests.vm.guest import GuestError


def main() -> int:
    """0 if everything went as it must."""
    if os.geteuid() != 0:
        say("FAILED: mmdebstrap makes the root as root: run this as root")
        return 1
    try:
        machine = build()
        run(machine)
        refuse_changed_image(machine)
        refuse_other_image(machine)
        refuse_changed_object(machine)
    except (
        Failed, RuntimeError, PackageError, CaseError, GuestError, subprocess.SubprocessError,
    ) as failure:  # fmt: skip
        show_failure(failure)
        return 1
    print("demo: ok", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
