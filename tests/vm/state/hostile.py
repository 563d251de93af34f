# SPDX-License-Identifier: Apache-2.0 OR MIT
"""State that somebody prepared: nothing leads out of the image or of the state's place."""

from collections.abc import Iterator

from .case import Setup, case, refused


def planted(name: str, plant: str, xattrs: dict[str, str], file: str) -> Setup:
    """Somebody's entry in the upper layer; its overlay `xattrs` must not give `file` a content."""
    entry = "$Q/etc/upper/" + file.partition("/")[0]
    script = ["mkdir -p $Q/etc/upper $Q/etc/work", f"{plant} {entry}"]
    script += [f"setxattr {entry} trusted.overlay.{key} {value}" for key, value in xattrs.items()]
    return case(
        name,
        " && ".join((*script, f"up && cat $S/etc/hostname && cat $S/etc/{file}")),
        etc="overlay",
        code=1,
        stdout=r"\Afixture\n\Z",
        stderr=rf"/etc/{file}'?: Operation not permitted",
    )


def linked(name: str, script: str, path: str = "/etc", **values: str) -> Setup:
    """Somebody's link on the way to the state at `path`."""
    link = "a symbolic link, and none is followed: Too many levels of symbolic links .*"
    values = values or {"etc": "overlay"}
    return case(name, script, code=32, stderr=refused(name, path, link), **values)


def hostile() -> Iterator[Setup]:
    sparse = "truncate -s 300"
    from_lower = {"redirect": "/os-release", "metacopy": "''"}
    yield planted("planted-file", sparse, from_lower, "evil")
    yield planted("planted-metacopy", sparse, {"metacopy": "''"}, "os-release")
    yield planted("planted-directory", "mkdir", {"redirect": "/sub"}, "evil/data")
    yield linked(
        "link-as-entry",
        "mkdir -p $Q /disk/state/there && ln -s ../../there $Q/etc && up",
        etc="bind",
    )
    yield linked(
        "link-as-parent",
        "mkdir -p /disk/state/link-as-parent /disk/state/there/etc &&ln -s ../there $Q && up",
    )
    yield linked(
        "link-as-parent-of-new",
        "mkdir -p /disk/state/there2 && ln -s there2 "
        "/disk/state/link-as-parent-of-new; up; code=$?; rmdir /disk/state/there2 || code=9;"
        "exit $code",
    )
    yield linked("link-as-upper", "mkdir -p $Q/etc && ln -s /disk/repo $Q/etc/upper && up")
    yield linked("link-out", "mkdir -p $Q && ln -s /guest $Q/var && up", "/var", var="bind")
    # What is wrong with /var is seen before anything is made for /etc.
    for name, var in (("whole", "bind"), ("whole-transient", "transient-disk")):
        whole = f"find /disk/state/{name} | sort"
        place = "/var" if var == "bind" else "/var.transient"
        yield linked(
            name,
            f"mkdir -p $Q/etc && echo old >$Q/etc/hostname && ln -s ../../there $Q{place} && "
            f"{whole} >/tmp/1 && up; code=$?; {whole} | cmp - /tmp/1 || code=9; exit $code",
            place,
            etc="overlay",
            var=var,
        )
    yield case(
        "fifo",
        "mkdir -p $Q && mkfifo $Q/var && up",
        var="bind",
        code=32,
        stderr=refused("fifo", "/var", "neither directory nor file", ".*"),
    )
