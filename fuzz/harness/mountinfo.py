# SPDX-License-Identifier: Apache-2.0 OR MIT
"""/proc/self/mountinfo: the kernel writes it, but names in it are anybody's."""

from pyinit.initrd.kernel import mountinfo

_ESCAPED = b" \t\n\\#"


def check(data: bytes) -> None:
    # Any name comes back as it was.
    escaped = b"".join(b"\\%03o" % byte if byte in _ESCAPED else bytes([byte]) for byte in data)
    assert mountinfo.unescape(escaped).encode("utf-8", "surrogateescape") == data
    line = b"1 2 0:3 / /%s rw - a b %s,rw\n" % (escaped, escaped)
    mounts = mountinfo.parse(line)
    assert [mount.target.encode("utf-8", "surrogateescape") for mount in mounts] == [b"/" + data]
    assert mountinfo.find(line, 1) is not None
    assert mountinfo.find(line, 2) is None
    try:
        mounts = mountinfo.parse(data)
    except ValueError:
        return
    assert len(mounts) <= data.count(b"\n") + 1
    for mount in mounts:
        # As the kernel writes ids: in digits alone.
        if data.startswith(b"%d " % mount.id) or b"\n%d " % mount.id in data:
            found = mountinfo.find(data, mount.id)
            assert found is not None
            assert found.id == mount.id
