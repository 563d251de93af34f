# SPDX-License-Identifier: Apache-2.0 OR MIT
"""cfs-mountd in a real root, with its own systemd, for a user: docs/howto/apps.md. And a portable
service of an image that is mounted by name.

The root is "first", with a layer in memory, into which a list goes: the image is "second". What the
root has not comes on the second disk: Python, our package, and Debian's portablectl.
"""

import os
import shutil
from pathlib import Path

import pytest

import pyinit

from . import dracut, suites
from .guest import Disk, boot
from .initrd import BOOT_MODULES, CONFIG, boot_initrd, configuration
from .once import BUILD, REPOSITORY, made_once
from .product import cfs_init
from .rootdisk import CARRIED
from .systemd_root import SystemdRoot, make_systemd_root, script_disk
from .toolbox import Toolbox

APPEND = "root=/dev/vda rw systemd.gpt_auto=0"
# Of the suite that the root is of.
PYTHON = "python3.13"
PACKAGES = (
    f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib", "libexpat1", "libffi8",
    "zlib1g", "systemd-container",
)  # fmt: skip
UNITS = ("cfs-mount@.service", "cfs-mountd@.service", "cfs-mountd.socket")
SCRIPT = r"""
echo "state: $(systemctl is-system-running --wait)"
cp -a /run/test/tree/. /
# What the root has and an image brings too is no portable service.
rm /usr/lib/systemd/system/fstrim.* /etc/systemd/system/fstrim.*
lists=/usr/lib/cfs/images.d
mkdir -p $lists
printf 'cfsimg1\ndigest=fsverity-sha256-12:DIGEST\nusers=yes\n' >$lists/second.conf
printf 'cfsimg1\ndigest=fsverity-sha256-12:DIGEST\n' >$lists/secret.conf
printf 'cfsimg1\ndigest=fsverity-sha256-12:%064d\nusers=yes\n' 0 >$lists/absent.conf
systemctl daemon-reload
systemctl start cfs-mountd.socket
user="setpriv --reuid 65534 --regid 65534 --clear-groups"
client="$user env PYTHONPATH=/usr/lib/python3/dist-packages python3 /run/test/client.py"
place=/run/cfs/io.cfs.Mount
echo "mode: $(stat -c %a $place)"

$user varlinkctl info $place | sed -n 's/^ *Product: /product: /p'
$user varlinkctl introspect $place io.cfs.Mount | grep -c '^method Mount(' | sed 's/^/methods: /'
$user varlinkctl introspect $place org.varlink.service | grep -c '^method' | sed 's/^/more: /'
call() { $user varlinkctl call $place io.cfs.Mount.Mount "$1" 2>&1 | tr -d '\n\t '; echo; }
echo "by varlinkctl: $(call '{"name":"second"}')"
echo "secret: $(call '{"name":"secret"}')"
echo "unknown: $(call '{"name":"../second"}')"
echo "absent: $(call '{"name":"absent"}')"
echo "wrong: $(call '{"name":"second","digest":"x"}')"
$user sh /run/test/documented | sed 's/^/documented: /'
$client use
echo "mounted for all: $(findmnt -n -o OPTIONS /run/cfs/images/second | grep -o '^ro,nosuid,nodev')"
echo "places: $(ls /run/cfs/images | tr '\n' ' ')"
$client hold & until [ -e /tmp/held ]; do sleep 0.1; done
systemctl stop cfs-mount@second.service
echo "stopped: $(findmnt -n /run/cfs/images/second) $(systemctl is-active cfs-mount@second.service)"
touch /tmp/stopped
wait
quota=/proc/sys/user/max_user_namespaces
before=$(cat $quota)
echo 4 >$quota
$client many
echo "$before" >$quota
setpriv --reuid 1000 --regid 1000 --clear-groups \
    env PYTHONPATH=/usr/lib/python3/dist-packages python3 /run/test/client.py another &
$client hurt
wait
echo "refused: $(journalctl -b -o cat -u cfs-mountd.socket | grep -c 'Too many incoming')"
echo "left: $(systemctl list-units --all --no-legend 'cfs-mountd@*' | grep -c failed)"
gave='user 65534, process [0-9]*: second: sha256:DIGEST'
echo "told: $(journalctl -b -o cat -t cfs-mountd | grep -c "$gave")"
echo "socket: $(systemctl is-active cfs-mountd.socket)"
systemd-analyze security --no-pager cfs-mountd@1.service | tail -1

systemctl reload dbus
# The profiles want /var/tmp, which the image of a root has not.
portablectl attach -q --runtime --profile=trusted /run/cfs/images/second fstrim
drop_in=/run/systemd/system/fstrim.service.d
mkdir -p $drop_in
printf '[Service]\nPrivateTmp=no\nExecStart=\nExecStart=cat /etc/hostname\n' >$drop_in/x.conf
systemctl daemon-reload
systemctl start fstrim.service || journalctl -b -o cat -u fstrim.service
echo "portable: $(journalctl -b -o cat -u fstrim.service | grep -x second)"
portablectl detach -q --runtime /run/cfs/images/second fstrim
echo "detached: $(systemctl show -p LoadState --value fstrim.service)"
journalctl -b -o cat -t cfs-mountd | head -40
"""
SAYS = (
    "state: running", "mode: 666", "product: cfs-mountd", "methods: 1", "more: 2",
    "documented: Linux", "read: second", "by a path: second", "executed: Linux",
    "from within: second", "written: EROFS", "attached: EPERM", "locked: EPERM EPERM EPERM",
    "attached in a namespace: done", "locked there: EPERM EPERM EPERM", "as a root: second",
    "executed there: Linux", "mounted for all: ro,nosuid,nodev", "places: absent second ",
    "stopped:  inactive", "held: second", "held at once: 8", "told: 13",
    "served meanwhile: second", "served after that: second", "left: 0", "socket: active",
    "portable: second", "detached: not-found",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(toolbox: Toolbox) -> SystemdRoot:
    return make_systemd_root(toolbox)


@pytest.fixture(scope="module")
def tree(toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is copied over the root."""
    packages = made_once(
        BUILD / "vm-cache" / "mountd",
        repr((suites.STABLE, PACKAGES)),
        lambda directory: toolbox.fetch(suites.STABLE, PACKAGES, directory),
    )
    tree = tmp_path_factory.mktemp("mountd") / "tree"
    unneeded = shutil.ignore_patterns("man", "doc", "locale", "test", "idlelib", ".stamp")
    shutil.copytree(packages, tree, symlinks=True, ignore=unneeded)
    (tree / "usr/bin/python3").symlink_to(PYTHON)
    shutil.copy(cfs_init(), tree / "usr/bin/cfs-mount")
    place = tree / "usr/lib/python3/dist-packages"
    unneeded = shutil.ignore_patterns("__pycache__", "frozen", "store", "uki", "commands")
    shutil.copytree(Path(pyinit.__file__).parent, place / "pyinit", ignore=unneeded)
    [extension] = (REPOSITORY / "build/lib").glob("_cfs.*.so")
    shutil.copy(extension, place)
    for unit in UNITS:
        (tree / "usr/lib/systemd/system").mkdir(parents=True, exist_ok=True)
        shutil.copy(dracut.MODULE / unit, tree / "usr/lib/systemd/system" / unit)
    return tree


@pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap needs root")
@pytest.mark.parametrize(
    "role", ["stable", pytest.param("newest", marks=pytest.mark.all_only)]
)  # fmt: skip
def test_what_a_user_gets(
    toolbox: Toolbox, root: SystemdRoot, tree: Path, tmp_path: Path, role: str
) -> None:
    kernel = toolbox.kernel(role)
    initrd = boot_initrd(
        kernel, cfs_init(), modules=BOOT_MODULES,
        files={CONFIG: configuration(root="transient"), CARRIED: root.carried(root.first)},
    )  # fmt: skip
    documented = (REPOSITORY / "docs/howto/apps.md").read_text()
    documented = "python3 - " + documented.partition("python3 - ")[2].partition("```")[0]
    (tmp_path / "documented").write_text(
        documented.replace("editor", "second").replace("edit", "uname")
    )
    client = Path(__file__).parent / "programs/mount_client.py"
    archive = script_disk(
        tmp_path / "script.tar", SCRIPT.replace("DIGEST", root.second.digest),
        {"tree": tree, "client.py": client, "documented": tmp_path / "documented"},
    )  # fmt: skip
    console = boot(
        toolbox, kernel=kernel.vmlinuz, initrd=initrd, append=APPEND, memory=1024, limit=600,
        disks=[Disk(root.disk, discard_writes=True), Disk(archive, read_only=True)],
        log=tmp_path / "console.log",
    )  # fmt: skip
    assert not console.timed_out, console.tail
    lines = [line.rstrip("\n") for line in console.results.decode(errors="replace").splitlines()]
    for line in SAYS:
        assert lines.count(line) == 1, "\n".join(lines)
