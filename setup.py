# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What pyproject.toml cannot say: the extension modules, and the command `build_frozen`."""

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

import setuptools
from setuptools import Command, Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # a build in isolation has only the tree itself

from pyinit.host.frozen import flags  # noqa: E402

# `_cfs` keeps to the limited API of 3.11, and fits every Python since. pybind11 knows the whole of
# one Python: `_cfshost` fits the minor version that it was built for, and so does the wheel.
LIMITED_API = "0x030B0000"
ENGINE = "_cfshost"

# As SPDX text, in the fields of PEP 639. In pyproject.toml setuptools takes it from 77 on only, and
# Debian 12 has 66, which refuses the whole file then. (The table that both take ends in 2027.)
LICENSE = "Apache-2.0 OR MIT"
LICENSE_FIELD = (
    "license_expression" if int(setuptools.__version__.split(".")[0]) >= 77 else "license"
)


def _found(*patterns: str) -> list[str]:
    return sorted(
        str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)
    )


class BuildExtension(build_ext):  # type: ignore[misc]  # untyped base
    """Puts the type stub beside the module: both are top-level modules, in no package."""

    def build_extension(self, ext: Extension) -> None:
        if ext.name == ENGINE:
            _with_pybind11(ext)
        super().build_extension(ext)
        if not self.inplace:
            target = Path(self.get_ext_fullpath(ext.name)).parent
            [stub] = ROOT.glob(f"csrc/*/{ext.name}.pyi")
            self.copy_file(str(stub.relative_to(ROOT)), str(target / stub.name))


def _with_pybind11(ext: Extension) -> None:
    """And the compiler's flags: looked for when needed. What builds cfs-init alone has neither."""
    try:
        ext.extra_compile_args += flags.hardening_cxx()
    except FileNotFoundError as error:
        sys.exit(f"{ext.name}: {error.filename} is missing: install g++, or set CXX and CC")
    try:
        import pybind11
    except ModuleNotFoundError:
        sys.exit(f"{ext.name}: pybind11 is missing: install python3-pybind11, or by pip")
    place = pybind11.get_include()
    # Not -I: its warnings are not ours. A build in isolation has it somewhere else each time.
    ext.extra_compile_args += ["-isystem", place, f"-ffile-prefix-map={place}=pybind11"]


class BuildFrozen(Command):  # type: ignore[misc]  # untyped base
    """`python setup.py build_frozen`: build/cfs-init, the executable for the initrd."""

    description = "build the static executable for the initrd (build/cfs-init)"
    user_options: ClassVar[list[Any]] = [
        ("interpreter=", None, "source (CPython's, with musl: the default) or distribution"),
        ("target=", None, "the processor it is for, if not this machine's: aarch64"),
        ("out=", None, "where it is built (build, or build/TARGET)"),
        ("check-source", None, "build nothing: fail where a newer source of CPython is on offer"),
    ]
    boolean_options: ClassVar[list[str]] = ["check-source"]

    def initialize_options(self) -> None:
        self.interpreter: str | None = None
        self.target: str | None = None
        self.out: str | None = None
        self.check_source = False

    def finalize_options(self) -> None:
        """Checked where it is used."""

    def run(self) -> None:
        try:
            from pyinit.host.frozen import build
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "elftools":
                raise
            sys.exit("build_frozen: pyelftools is missing: install python3-pyelftools, or by pip")
        try:
            if self.check_source:
                sys.exit(build.check_source(ROOT) or 0)
            build.main(ROOT, self.interpreter, self.target, self.out)
        except build.FAILURES as error:
            sys.exit(f"build_frozen: {error}")


setup(
    ext_modules=[
        Extension(
            "_cfs",
            sources=_found("csrc/parse/*.c", "csrc/system/*.c", "csrc/extension/*.c"),
            depends=_found("csrc/**/*.h"),
            include_dirs=["csrc"],
            define_macros=[("Py_LIMITED_API", LIMITED_API)],
            extra_compile_args=[
                *("-std=gnu17", "-O2", "-fvisibility=hidden"),
                f"-ffile-prefix-map={ROOT}=.",  # the same file wherever it is built
                *flags.hardening(),
            ],
            extra_link_args=flags.linking(flags.LINK_SHARED),
            py_limited_api=True,
        ),
        Extension(
            ENGINE,
            language="c++",
            sources=_found("csrc/host/*.cc"),
            depends=_found("csrc/host/*.h"),
            libraries=["crypto", "isal", "zstd"],
            extra_compile_args=[
                # Without what debuggers want of templates, which is ten times the code: a package
                # asks for that, and puts it into a package of its own.
                *("-std=c++20", "-O2", "-fvisibility=hidden"),
                *([] if "-g" in os.environ.get("CFLAGS", "").split() else ["-g0"]),
                f"-ffile-prefix-map={ROOT}=.",
            ],
            extra_link_args=flags.linking(flags.LINK_SHARED),
        ),
    ],
    license_files=["LICENSE-APACHE", "LICENSE-MIT"],
    cmdclass={"build_ext": BuildExtension, "build_frozen": BuildFrozen},
    **{LICENSE_FIELD: LICENSE},
)
