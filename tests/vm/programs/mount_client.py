# SPDX-License-Identifier: Apache-2.0 OR MIT
"""In a guest, as a user: what can be done with the mount that io.cfs.Mount gives, and with the
service. Each line is told to test_mountd.py."""

import _cfs
import errno
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable

SOCKET = "/run/cfs/io.cfs.Mount"
RDONLY, NOSUID, NODEV = 1, 2, 4
NEW_NAMESPACES = 0x10020000  # CLONE_NEWUSER, CLONE_NEWNS


def connect() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(120)
    connection.connect(SOCKET)
    return connection


def ask(method: str, **parameters: str) -> bytes:
    return json.dumps({"method": method, "parameters": parameters}).encode() + b"\0"


def mount(name: str) -> tuple[dict[str, object], int]:
    with connect() as connection:
        connection.sendall(ask("io.cfs.Mount.Mount", name=name))
        data, descriptors, _, _ = socket.recv_fds(connection, 8192, 4)
    assert data[-1:] == b"\0", data
    answer = json.loads(data[:-1])
    if "error" in answer:
        raise SystemExit(f"{name}: {answer}")
    return answer["parameters"], descriptors[answer["parameters"]["fileDescriptor"]]


def tried(call: Callable[..., object], *arguments: object) -> str:
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def read(path: str, **how: int) -> str:
    with open(os.open(path, os.O_RDONLY, **how), encoding="ascii") as file:
        return file.read().strip()


def run(program: int, *arguments: str) -> str:
    """What a program writes that is given by its descriptor."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.dup2(writer, 1)
        os.execve(program, [*arguments], {})
    os.close(writer)
    with open(reader, encoding="ascii") as file:
        text = file.read().strip()
    os.wait()
    return text


def locked(fd: int) -> str:
    return " ".join(tried(_cfs.mount_set, fd, 0, each, False) for each in (RDONLY, NOSUID, NODEV))


def use() -> None:
    answer, fd = mount("second")
    print("answer:", answer)
    print("read:", read("etc/hostname", dir_fd=fd))
    print("by a path:", read(f"/proc/self/fd/{fd}/etc/hostname"))
    print("executed:", run(os.open("usr/bin/uname", os.O_PATH, dir_fd=fd), "uname"))
    os.fchdir(fd)
    print("from within:", read("etc/hostname"))
    os.chdir("/")
    print("written:", tried(lambda: os.open("usr/x", os.O_WRONLY | os.O_CREAT, dir_fd=fd)))
    print("attached:", tried(_cfs.mount_attach, fd, os.open("/mnt", os.O_PATH)))
    user = os.getuid()
    vars(os)["unshare"](NEW_NAMESPACES)  # since Python 3.12, which the guest has
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", "0 65534 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    print("locked:", locked(fd))
    print("attached in a namespace:", tried(_cfs.mount_attach, fd, os.open("/mnt", os.O_PATH)))
    print("locked there:", locked(os.open("/mnt", os.O_PATH)))
    os.chroot("/mnt")
    os.chdir("/")
    print("as a root:", read("/etc/hostname"))
    print("executed there:", run(os.open("/usr/bin/uname", os.O_PATH), "uname"))


def hold() -> None:
    _, fd = mount("second")
    open("/tmp/held", "x").close()
    while not os.path.exists("/tmp/stopped"):
        time.sleep(0.1)
    print("held:", read("etc/hostname", dir_fd=fd))


def many() -> None:
    """Holds more than root may have user namespaces. Who asks too fast is told so: again then."""
    held: list[int] = []
    end = time.monotonic() + 60
    while len(held) < 8 and time.monotonic() < end:
        try:
            held.append(mount("second")[1])
        except (OSError, AssertionError, SystemExit):
            time.sleep(0.5)
    print("held at once:", len(held))


def attack(kind: int, end: float) -> None:
    """One connection after the other, of this kind."""
    call = ask("io.cfs.Mount.Mount", name="../x")
    while time.monotonic() < end:
        try:
            with connect() as connection, open(os.devnull, "rb") as file:
                if kind == 0:
                    time.sleep(4)  # says nothing
                elif kind == 1:
                    connection.sendall(b"x" * 5000)
                    connection.recv(10)
                elif kind == 2:
                    socket.send_fds(connection, [call], [file.fileno()])
                    connection.recv(10)
        except OSError:
            pass


def hurt() -> None:
    """As many connections as it can have, for some seconds."""
    end = time.monotonic() + 4
    threads = [threading.Thread(target=attack, args=(kind % 4, end)) for kind in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    insist("served after that")


def insist(what: str) -> None:
    """Asks until there is an answer."""
    begun = time.monotonic()
    for _ in range(60):
        try:
            _, fd = mount("second")
        except (OSError, AssertionError):
            time.sleep(1)
            continue
        print(f"{what}:", read("etc/hostname", dir_fd=fd))
        print(f"seconds: {what}: {time.monotonic() - begun:.1f}")
        return


def another() -> None:
    time.sleep(2)
    insist("served meanwhile")


CALLED = {"use": use, "hold": hold, "many": many, "hurt": hurt, "another": another}
CALLED[sys.argv[1]]()
