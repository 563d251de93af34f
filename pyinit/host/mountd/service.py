# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The methods of the service, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable

from pyinit import VERSION
from pyinit.host.mountd import image, varlink
from pyinit.host.mountd.image import CannotMount, NoSuchImage
from pyinit.host.mountd.varlink import Call

MOUNT = "io.cfs.Mount"
SERVICE = "org.varlink.service"
DESCRIPTIONS = {
    SERVICE: """\
# What every service of Varlink says of itself
interface org.varlink.service

method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound(interface: string)

error MethodNotFound(method: string)

error InvalidParameter(parameter: string)
""",
    MOUNT: """\
# Images of composefs that the sealed root lets users have
interface io.cfs.Mount

# A detached mount of the image that has this name: its digest, and which of the descriptors that
# come with this message is the mount
method Mount(name: string) -> (digest: string, fileDescriptor: int)

# No image of this name is for users
error NoSuchImage()

# The image is for users, and could not be mounted
error CannotMount(reason: string)
""",
}
_INFO: dict[str, object] = {
    "vendor": "pyinit",
    "product": "cfs-mountd",
    "version": VERSION,
    "url": "https://pyinit.invalid/",
    "interfaces": list(DESCRIPTIONS),
}

Answer = tuple[bytes, list[int]]
"""A message, and the descriptors that go with it."""


class _InvalidParameter(Exception):
    pass


def answer(call: Call, tell: Callable[[str], None]) -> Answer:
    """The answer to any call. `tell`: a line for root, of what was done or refused."""
    method = _METHODS.get(call.method)
    if method is None:
        interface = call.method.rpartition(".")[0]
        if interface in DESCRIPTIONS:
            return varlink.error(f"{SERVICE}.MethodNotFound", method=call.method), []
        return varlink.error(f"{SERVICE}.InterfaceNotFound", interface=interface), []
    try:
        return method(call.parameters, tell)
    except _InvalidParameter as error:
        return varlink.error(f"{SERVICE}.InvalidParameter", parameter=str(error)), []


def _no_other(parameters: dict[str, object], *names: str) -> None:
    for key in parameters:
        if key not in names:
            raise _InvalidParameter(key)


def _text(parameters: dict[str, object], name: str) -> str:
    """The one parameter that there is, a text. _InvalidParameter."""
    _no_other(parameters, name)
    value = parameters.get(name)
    if not isinstance(value, str):
        raise _InvalidParameter(name)
    return value


def _get_info(parameters: dict[str, object], _tell: Callable[[str], None]) -> Answer:
    _no_other(parameters)
    return varlink.reply(_INFO), []


def _get_description(parameters: dict[str, object], _tell: Callable[[str], None]) -> Answer:
    interface = _text(parameters, "interface")
    if interface not in DESCRIPTIONS:
        return varlink.error(f"{SERVICE}.InterfaceNotFound", interface=interface), []
    return varlink.reply({"description": DESCRIPTIONS[interface]}), []


def _mount(parameters: dict[str, object], tell: Callable[[str], None]) -> Answer:
    name = _text(parameters, "name")
    try:
        digest, fd = image.give(name)
    except NoSuchImage as error:
        tell(f"{name}: {error.__cause__ or 'not for users'}")
        return varlink.error(f"{MOUNT}.NoSuchImage"), []
    except CannotMount as error:
        tell(f"{name}: {error}" + (f": {error.__cause__}" if error.__cause__ else ""))
        return varlink.error(f"{MOUNT}.CannotMount", reason=str(error)), []
    tell(f"{name}: {digest}")
    return varlink.reply({"digest": str(digest), "fileDescriptor": 0}), [fd]


_METHODS = {
    f"{SERVICE}.GetInfo": _get_info,
    f"{SERVICE}.GetInterfaceDescription": _get_description,
    f"{MOUNT}.Mount": _mount,
}
