# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The command lines of cfs-mount and mount.cfs, as values. No disk is touched here."""

from pyinit.initrd.kernel.mounting import (
    ATIME,
    NOATIME,
    NODEV,
    NODIRATIME,
    NOEXEC,
    NOSUID,
    NOSYMFOLLOW,
    RDONLY,
    STRICTATIME,
)
from pyinit.initrd.report.errors import UsageError
from pyinit.initrd.root.digest import Digest
from pyinit.initrd.source import payload

USAGE = """\
usage: cfs-mount --object-store DIR --digest DIGEST [options] TARGET
       cfs-mount --name NAME [options] TARGET

  --object-store DIR     the store (objects directory, or repository with objects/)
  --digest DIGEST        fs-verity digest of the image: 64 or 128 lower-case hex digits. A prefix
                         may be sha256:, sha512:, fsverity-sha256-12: or fsverity-sha512-12:
  --name NAME            instead of both: what the booted UKI or the sealed root names so
  --image FILE           the image, where it lies outside the store (it is measured too)
  --upperdir DIR         upper layer of a writable root
  --workdir DIR          an empty directory on the same file system
  --ro                   read-only (default without --upperdir)
  --rw                   writable
  --verity require|off   what is checked (require, the default: all; off: nothing)
  --dry-run              do everything except attaching the mount
  --json                 print the status record
  -v, --verbose          print what was done
  -h, --help             this text
  --version              the version
"""
USAGE_HELPER = """\
usage: mount.cfs STORE DIR [-sfnv] [-N NAMESPACE] -o digest=DIGEST[,OPTION...]

  -o OPTIONS             mount options: digest=DIGEST or name=NAME, image=FILE, upperdir=DIR,
                         workdir=DIR, verity=require|off, ro, rw, remount, and those of mount(8).
                         A value with commas: image="a,b"
  -s                     ignore unknown mount options
  -f                     do everything except attaching the mount
  -v                     print what was done
  -n                     ignored
  -t TYPE                ignored
  -N NAMESPACE           refused
  -h, --help             this text
  --version              the version
"""


class MountOptions:
    """What is to be mounted where. `target` is always there, `store` is where no name is given, and
    `digest` where neither that is nor something is to be remounted."""

    __slots__ = (
        "attributes",
        "cleared",
        "digest",
        "dry_run",
        "image",
        "json",
        "name",
        "remount",
        "store",
        "synchronous",
        "target",
        "upperdir",
        "verbose",
        "verity",
        "workdir",
        "writable",
    )

    def __init__(self) -> None:
        self.store = ""
        self.digest: Digest | None = None
        self.target = ""
        self.name: str | None = None  # of an image that the UKI or the sealed root names
        self.image: str | None = None
        self.upperdir: str | None = None
        self.workdir: str | None = None
        self.writable: bool | None = None
        self.verity = "require"
        self.attributes = 0  # MOUNT_ATTR_*
        self.cleared = 0  # those that a remount takes away
        self.synchronous: str | None = None
        self.remount = False
        self.dry_run = self.json = self.verbose = False

    def finish(self, dashes: str = "--") -> "MountOptions":
        """Checks what belongs together; UsageError. `dashes`: before the names of options."""
        if self.name is not None:
            self._check_name(dashes)
        elif not self.store:
            raise UsageError("usage", dashes + "object-store", "missing")
        elif self.digest is None and not self.remount:
            raise UsageError("usage", dashes + "digest", "missing", dashes + "digest=DIGEST")
        if (self.upperdir is None) != (self.workdir is None):
            found = "upperdir and workdir belong together"
            raise UsageError("usage", dashes + "upperdir", found)
        if self.remount:
            if self.image is not None and self.digest is None:
                found = "a remount does not look at it"
                raise UsageError("usage", dashes + "image", found, f"{dashes}digest=DIGEST")
            return self  # what is there decides
        if self.writable is None:
            self.writable = self.upperdir is not None
        if self.writable and self.upperdir is None:
            raise UsageError("usage", "--rw", "nothing to write to", "--upperdir and --workdir")
        if not self.writable:
            self.attributes |= RDONLY
        else:
            self.check_written()
        return self

    def _check_name(self, dashes: str) -> None:
        """What is named so is one image, checked. It may less than a root, as systemd has it of an
        image (RootImage=), but where a mount option says otherwise."""
        if self.digest is not None or self.image is not None or self.verity == "off":
            found = "not together with digest, image or verity=off"
            raise UsageError("usage", dashes + "name", found, "the name alone says which image")
        if not self.remount:
            self.attributes |= (NOSUID | NODEV) & ~self.cleared

    def check_written(self) -> None:
        """UsageError where an option says how to write: that is another file system's affair."""
        if self.synchronous is not None:
            expected = "the file system of upperdir mounted with it"
            found = "what is written goes to another file system"
            raise UsageError("usage", self.synchronous, found, expected)


_STRINGS = {
    "--object-store": "store",
    "--image": "image",
    "--name": "name",
    "--upperdir": "upperdir",
    "--workdir": "workdir",
}
_FLAGS = {"--dry-run": "dry_run", "--json": "json", "--verbose": "verbose", "-v": "verbose"}
_WRITABLE = {"--ro": False, "--rw": True}


def parse_command(arguments: list[str]) -> MountOptions:
    """`cfs-mount`'s arguments. UsageError names the option."""
    options = MountOptions()
    seen: set[str] = set()
    positional: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            positional += rest
            break
        if argument.startswith("-"):
            _take(options, seen, argument, rest)
        else:
            positional.append(argument)
    if len(positional) != 1:
        raise UsageError("usage", "TARGET", f"{len(positional)} arguments", "one")
    options.target = _not_empty("TARGET", positional[0])
    return options.finish()


def _take(options: MountOptions, seen: set[str], argument: str, rest: list[str]) -> None:
    """One option, and its value from `rest` where it is not `--name=value`."""
    name, equals, value = argument.partition("=")
    if name in _FLAGS or name in _WRITABLE:
        if equals:
            raise UsageError("usage", name, "takes no value")
        if name in _FLAGS:
            setattr(options, _FLAGS[name], True)
        elif options.writable not in (None, _WRITABLE[name]):
            raise UsageError("usage", name, "--ro and --rw exclude each other")
        else:
            options.writable = _WRITABLE[name]
        return
    if name not in _STRINGS and name not in ("--digest", "--verity"):
        raise UsageError("usage", name, "unknown option", "one of --help")
    if not equals:
        if not rest:
            raise UsageError("usage", name, "its value is missing")
        value = rest.pop(0)
    _set(options, seen, name, value)


def _set(options: MountOptions, seen: set[str], shown: str, value: str) -> None:
    """`shown`: the option as it was given, with dashes or without."""
    if shown in seen:
        raise UsageError("usage", shown, "given twice")
    seen.add(shown)
    name = shown.removeprefix("--")
    if name == "digest":
        options.digest = Digest.parse(value, shown)
        return
    _not_empty(shown, value)
    if name == "verity":
        if value not in ("require", "off"):
            raise UsageError("usage", shown, repr(value), "require or off")
        options.verity = value
    elif name == "name" and not payload.is_name(value):
        raise UsageError("usage", shown, repr(value), "a name as the UKI has them: cfs-uki(8)")
    else:
        setattr(options, _STRINGS["--" + name], value)


def _not_empty(name: str, value: str) -> str:
    if not value:
        raise UsageError("usage", name, "an empty value")
    return value


# Option to (attributes to set, to clear); the last word counts.
_ATTRIBUTES = {
    "nosuid": (NOSUID, 0),
    "suid": (0, NOSUID),
    "nodev": (NODEV, 0),
    "dev": (0, NODEV),
    "noexec": (NOEXEC, 0),
    "exec": (0, NOEXEC),
    "nosymfollow": (NOSYMFOLLOW, 0),
    "symfollow": (0, NOSYMFOLLOW),
    "noatime": (NOATIME, ATIME),
    "atime": (0, ATIME),
    "relatime": (0, ATIME),
    "strictatime": (STRICTATIME, ATIME),
    "nostrictatime": (0, ATIME),
    "nodiratime": (NODIRATIME, 0),
    "diratime": (0, NODIRATIME),
    # Who lets users mount something trusts it less (mount(8)).
    "user": (NOEXEC | NOSUID | NODEV, 0),
    "users": (NOEXEC | NOSUID | NODEV, 0),
    "owner": (NOSUID | NODEV, 0),
    "group": (NOSUID | NODEV, 0),
}
RESTRICTIONS = {
    "ro": RDONLY,
    "nosuid": NOSUID,
    "nodev": NODEV,
    "noexec": NOEXEC,
    "nosymfollow": NOSYMFOLLOW,
}
# Of mount(8) and fstab(5): read by those who call us, or without a meaning for this file system.
_GENERIC = (
    *("defaults", "auto", "noauto", "nofail", "_netdev", "_rnetdev", "nouser", "nousers"),
    *("noowner", "nogroup", "comment", "async", "loud", "silent", "lazytime", "nolazytime"),
    *("norelatime", "mand", "nomand", "iversion", "noiversion"),
)
_SYNCHRONOUS = ("sync", "dirsync")
_LABELS = "not supported: files have the labels that the image gives them"
_BIND = "no matter of this file system: mount --bind, without -t cfs"
_NOT_HERE = {
    "context": _LABELS,
    "fscontext": _LABELS,
    "defcontext": _LABELS,
    "rootcontext": _LABELS,
    "bind": _BIND,
    "rbind": _BIND,
    "move": _BIND,
}


def parse_helper(arguments: list[str]) -> MountOptions:
    """`mount.cfs STORE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS]`, as mount(8) calls its helpers."""
    options = MountOptions()
    positional: list[str] = []
    mount_options: list[str] = []
    sloppy = False
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-") or argument == "-":
            positional.append(argument)
        elif argument in ("-o", "-N", "-t"):
            if not rest:
                raise UsageError("usage", argument, "its value is missing")
            value = rest.pop(0)
            if argument == "-o":
                mount_options += _split(value)
            elif argument == "-N":
                raise UsageError("usage", "-N", "mounting in another namespace is not supported")
        else:
            for letter in argument[1:]:
                if letter not in "sfnv":
                    raise UsageError("usage", f"-{letter}", "unknown option", "-s -f -n -v -N -o")
                sloppy = sloppy or letter == "s"
                options.dry_run = options.dry_run or letter == "f"
                options.verbose = options.verbose or letter == "v"
    if len(positional) != 2:
        raise UsageError("usage", "mount.cfs", f"{len(positional)} arguments", "STORE and DIR")
    options.store = _not_empty("STORE", positional[0])
    options.target = _not_empty("DIR", positional[1])
    _take_mount_options(options, mount_options, sloppy)
    return options.finish(dashes="")


def _split(text: str) -> list[str]:
    """The options between commas, as libmount has it: a comma in quotation marks is none, and a
    backslash takes its meaning from a quotation mark, or outside of such from a comma. UsageError.
    """
    options = [""]
    quoted = False
    for at, character in enumerate(text):
        escaped = text[at - 1 : at] == "\\"
        if character not in '",' or (quoted and character == ","):
            options[-1] += character
        elif escaped:
            options[-1] = options[-1][:-1] + character
        elif character == ",":
            options.append("")
        else:
            quoted = not quoted
    if quoted:
        raise UsageError("usage", "-o", "a quotation mark without its second", 'name="value"')
    return options


def _take_mount_options(options: MountOptions, given: list[str], sloppy: bool) -> None:
    seen: set[str] = set()
    options.remount = "remount" in given
    for option in given:
        name, equals, value = option.partition("=")
        if name in ("digest", "image", "name", "upperdir", "workdir", "verity"):
            if not equals:
                raise UsageError("usage", name, "its value is missing")
            _set(options, seen, name, value)
        elif option in ("ro", "rw"):
            options.writable = option == "rw"
        elif not _take_generic(options, option, name) and not sloppy:
            if name in _NOT_HERE:
                raise UsageError("usage", name, _NOT_HERE[name])
            raise UsageError("usage", name, "unknown mount option")
    if options.writable and not options.remount:
        options.writable = None  # mount(8) says rw where nobody said ro: upperdir decides


def _take_generic(options: MountOptions, option: str, name: str) -> bool:
    """One of mount(8), fstab(5) or systemd.mount(5); False: it is none that can be obeyed."""
    if option in _ATTRIBUTES or name == "user":  # user=NAME: who has mounted it
        attributes, cleared = _ATTRIBUTES[name]
        options.attributes = options.attributes & ~cleared | attributes
        options.cleared |= cleared
    elif option in _SYNCHRONOUS:
        options.synchronous = option
    elif option == "bind":
        return options.remount
    elif option != "remount":
        return not option or name.startswith(("x-", "X-")) or name in _GENERIC
    return True
