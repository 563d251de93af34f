# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The frozen executable as it runs: names, exit codes, imports, last words."""

import ctypes
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import pyinit
from pyinit.host.frozen import sources
from tests.frozen.conftest import ROOT, STAND_IN, run

NAMES = ("cfs-mount", "mount.cfs", "cfs-setup-root", "init")

# glibc's malloc (INTERPRETER=distribution) asks for it while the program starts, before main().
LIBC_OPENS = {"/proc/sys/vm/overcommit_memory"}


@pytest.mark.parametrize("name", NAMES)
def test_its_name_may_be_the_first_argument(executable: Path, name: str) -> None:
    done = run(executable, name, "--version")
    assert (done.returncode, done.stdout) == (0, f"{name} {pyinit.VERSION}\n")
    assert done.stderr == ""


@pytest.mark.parametrize("name", NAMES)
def test_its_name_may_be_that_of_a_link(executable: Path, tmp_path: Path, name: str) -> None:
    link = tmp_path / name
    link.symlink_to(executable)
    done = run(link, "--version")
    assert (done.returncode, done.stdout) == (0, f"{name} {pyinit.VERSION}\n")


@pytest.mark.parametrize("args", [[], ["ls"], ["--help", "cfs-mount"], [""]])
def test_without_a_name_it_says_how_to_use_it(executable: Path, args: list[str]) -> None:
    done = run(executable, *args)
    assert done.returncode == 1
    assert done.stderr.startswith("usage: cfs-init {cfs-mount,")


@pytest.mark.parametrize("code", [0, 1, 2, 4, 32])
def test_the_result_of_main_is_the_exit_code(stand_in: Path, code: int) -> None:
    assert run(stand_in, "exit", str(code)).returncode == code


def test_arguments_arrive_byte_by_byte(stand_in: Path) -> None:
    raw = b"caf\xe9 \xc3\xa9\xff"
    done = subprocess.run(
        [bytes(stand_in), b"arguments", raw, b""], capture_output=True, timeout=600, check=True
    )
    assert done.stdout == raw + b"\n\n"


def test_the_language_is_all_there(stand_in: Path) -> None:
    done = run(stand_in, "language")
    assert (done.returncode, done.stderr) == (0, "")


def line_of(mark: str) -> int:
    (found,) = (
        number
        for number, line in enumerate(STAND_IN.read_text().splitlines(), 1)
        if line.endswith(f"# LINE: {mark}")
    )
    return found


def test_a_traceback_names_files_and_lines(stand_in: Path) -> None:
    done = run(stand_in, "chain")
    assert done.returncode == 4
    lines = done.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    deeper = f'  File "stand_in.py", line {line_of("deeper")}, in deep'
    assert lines.count(deeper) == 3
    first = lines.index("ValueError: first")
    assert lines[first - 1] == f'  File "stand_in.py", line {line_of("first")}, in deep'
    link = "The above exception was the direct cause of the following exception:"
    assert first < lines.index(link)
    assert lines[-2] == f'  File "stand_in.py", line {line_of("second")}, in chain'
    # Escaped: it may go to a serial console.
    assert lines[-1].startswith("KeyError: ")
    assert "\x1b" not in done.stderr


def test_an_exception_while_another_is_handled(stand_in: Path) -> None:
    done = run(stand_in, "context")
    assert done.returncode == 4
    assert "During handling of the above exception" in done.stderr
    assert done.stderr.index("ValueError: seen") < done.stderr.index("KeyError: 'missing'")


def test_an_endless_recursion_is_reported_briefly(stand_in: Path) -> None:
    done = run(stand_in, "endless")
    assert done.returncode == 4
    assert "RecursionError" in done.stderr
    assert "frames left out" in done.stderr
    assert len(done.stderr.splitlines()) < 80


@pytest.mark.parametrize(
    ("mode", "last"),
    [
        ("no-number", "TypeError: "),
        ("no-text", "Mute: <str() raised OSError>"),
        ("no-report", "cfs-init: internal error: LookupError"),
        ("leave", "SystemExit: 0"),
        ("no-such-mode", "KeyError: 'no-such-mode'"),
    ],
)
def test_whatever_goes_wrong_is_an_internal_error(stand_in: Path, mode: str, last: str) -> None:
    done = run(stand_in, mode)
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1].startswith(last)


def test_what_is_absent_ends_the_program_by_name(stand_in: Path) -> None:
    done = run(stand_in, "compiler")
    assert done.returncode == -signal.SIGABRT
    assert "absent: _PyArena_New" in done.stderr


def test_pid_1_writes_its_last_words_to_the_kernel_log(stand_in: Path, tmp_path: Path) -> None:
    """A file stands in for /dev/kmsg, in mount and PID namespaces of its own."""
    log = tmp_path / "kmsg"
    log.touch()
    script = 'mount --bind "$0" /dev/kmsg && exec "$1" context'
    unshare = ["unshare", "--mount", "--pid", "--fork"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    command = [*unshare, "sh", "-c", script, str(log), str(stand_in)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 4, done.stderr
    written = log.read_text().splitlines()
    assert written == [f"<2>cfs-init: {line}" for line in done.stderr.splitlines()]
    assert written[-1] == "<2>cfs-init: KeyError: 'missing'"


def frozen_names() -> list[str]:
    return [m.name for m in sources.collect(ROOT) if m.name != sources.IMPORTER]


def test_all_modules_come_from_the_executable(stand_in: Path) -> None:
    names = frozen_names()
    done = run(stand_in, "modules", *names)
    assert done.returncode == 0, done.stderr
    found = dict(line.split(" ") for line in done.stdout.splitlines())
    inherent = {sources.IMPORTER_NAME, "__main__", "_imp", "builtins", "sys"}
    assert set(names) <= set(found)
    assert set(found) <= set(names) | sources.BUILTINS | inherent | {sources.EMPTY}
    for name in set(found) - inherent:
        assert found[name] == ("built-in" if name in sources.BUILTINS else "frozen"), name


def test_no_file_is_opened_for_an_import(stand_in: Path, tmp_path: Path) -> None:
    """Nor looked for: the only path that libc looks up is its own /proc/self/exe."""
    trace = tmp_path / "trace"
    names = frozen_names()
    done = run("strace", "-f", "-o", trace, "-e", "trace=%file", stand_in, "modules", *names)
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    assert "execve(" in lines[0]
    paths = {path for line in lines[1:] for path in re.findall(r'\((?:AT_FDCWD, )?"([^"]*)"', line)}
    assert paths <= LIBC_OPENS | {"/proc/self/exe"}


def test_it_starts_before_the_kernel_has_random_numbers(executable: Path) -> None:
    """As early in a boot: getrandom() would block, and there is no /dev/urandom nor /proc."""
    faults = [
        "inject=getrandom:error=EAGAIN",
        "inject=open,openat,readlink,readlinkat:error=ENOENT",
    ]
    options = [part for fault in faults for part in ("-e", fault)]
    done = run("strace", "-o", "/dev/null", *options, executable, "init", "--version")
    assert (done.returncode, done.stdout) == (0, f"init {pyinit.VERSION}\n")


def test_it_needs_no_other_file(executable: Path, tmp_path: Path) -> None:
    """In a root directory that holds nothing else."""
    shutil.copy(executable, tmp_path / "init")
    chroot = ["chroot", str(tmp_path), "/init", "--version"]
    if os.geteuid() != 0:
        chroot = ["unshare", "--user", "--map-root-user", *chroot]
    done = run(*chroot)
    assert (done.returncode, done.stdout) == (0, f"init {pyinit.VERSION}\n"), done.stderr


def test_it_sleeps_and_the_clock_goes_on(stand_in: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    done = run("strace", "-o", trace, "-e", "trace=clock_nanosleep", stand_in, "sleep")
    assert (done.returncode, done.stderr) == (0, "")
    assert "clock_nanosleep(CLOCK_MONOTONIC, 0, {tv_sec=0, tv_nsec=12500000}" in trace.read_text()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_missing_standard_descriptors_are_not_taken(stand_in: Path, closed: str) -> None:
    """The kernel gives PID 1 none where the initramfs has no /dev/console."""
    done = run("/bin/sh", "-c", f'exec "$0" next-descriptor {closed}', stand_in)
    assert done.returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_as_it_ends_any_program(stand_in: Path, number: signal.Signals) -> None:
    # What a shell has started in the background ignores SIGINT, and so would what we start.
    command = ["env", f"--default-signal={number.name[3:]}", str(stand_in), "spin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(60) == -number


def test_a_closed_pipe_ends_it_too(executable: Path) -> None:
    with subprocess.Popen(["/bin/true"], stdin=subprocess.PIPE) as reader:
        reader.wait(60)
        assert reader.stdin is not None
        done = subprocess.run(
            [executable, "cfs-mount", "--version"],
            stdout=reader.stdin,
            timeout=600,
            check=False,
        )
    assert done.returncode == -signal.SIGPIPE


PR_SET_THP_DISABLE = 41
HUGE, TAIL = 2 << 20, 32 * 4096


def without_huge_pages() -> None:
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


@contextmanager
def at_any_page(executable: Path) -> Iterator[tuple[str, int]]:
    """The same program, of which the kernel does not know that it wants a multiple of 2 MB: as old
    kernels load it. In memory, for some file systems are loaded from at such addresses anyway."""
    data = bytearray(executable.read_bytes())
    at, size, count = *struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54)
    for header in range(at, at + size * count, size):
        if struct.unpack_from("<Q", data, header + 48)[0] == HUGE:
            struct.pack_into("<Q", data, header + 48, 4096)
    memory = os.memfd_create("program")
    try:
        os.write(memory, data)
        yield f"/proc/self/fd/{memory}", memory
    finally:
        os.close(memory)


def launch(
    program: Path, argument: str, pages: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """With huge pages, without them, or from a load address that is no multiple of one."""
    if pages != "any address":
        return subprocess.run(
            [program, argument, *arguments], capture_output=True, text=True, timeout=600,
            check=False, preexec_fn=without_huge_pages if pages == "ordinary" else None,
        )  # fmt: skip
    with at_any_page(program) as (path, memory):
        return subprocess.run(
            [path, argument, *arguments], capture_output=True, text=True, timeout=600,
            check=False, pass_fds=[memory],
        )  # fmt: skip


def window(stand_in: Path, pages: str) -> tuple[int, int]:
    """Its address, and how much of it is in huge pages, in KiB. proc_pid_smaps(5)"""
    text = launch(stand_in, "smaps", pages).stdout
    for part in re.split(r"^(?=[0-9a-f]+-)", text, flags=re.MULTILINE):
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-p .* 0 +\n", part)
        if found and int(found[2], 16) - int(found[1], 16) == HUGE + TAIL:
            huge = re.search(r"^AnonHugePages: +(\d+) kB", part, re.MULTILINE)
            assert huge
            return int(found[1], 16), int(huge[1])
    raise AssertionError(f"no window in {text}")


def test_the_window_is_a_huge_page(stand_in: Path) -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists() or "[never]" in setting.read_text():
        pytest.skip("this kernel gives no huge pages")
    free = Path("/proc/buddyinfo").read_text().splitlines()
    if not any(sum(map(int, line.split()[-2:])) for line in free):
        pytest.skip("no memory of 2 MB and more in one piece is free here")
    assert max(window(stand_in, "huge")[1] for _ in range(5)) == 2048
    assert window(stand_in, "ordinary")[1] == 0


def test_the_window_may_lie_at_any_page(stand_in: Path) -> None:
    """So that the tests of this really are."""
    assert any(window(stand_in, "any address")[0] % HUGE for _ in range(5))


def test_it_is_somewhere_else_each_time(stand_in: Path) -> None:
    libc = ctypes.CDLL(None)
    libc.personality.argtypes = [ctypes.c_ulong]  # tests under ASan are without random addresses
    found = {
        subprocess.run(
            [stand_in, "where"], capture_output=True, timeout=600, check=True,
            preexec_fn=lambda: libc.personality(0),
        ).stdout
        for _ in range(8)
    }  # fmt: skip
    assert len(found) > 1


def test_what_was_relocated_is_read_only(stand_in: Path) -> None:
    """RELRO. musl leaves it writable in static programs, and csrc/runtime/start.c does not."""
    maps = []
    for line in launch(stand_in, "smaps", "huge").stdout.splitlines():
        if found := re.match(rf"([0-9a-f]+)-([0-9a-f]+) (\S+) .* {stand_in}$", line):
            maps.append((int(found[1], 16), int(found[2], 16), found[3]))
    base = maps[0][0]
    with stand_in.open("rb") as file:
        segments = ELFFile(file).iter_segments()
        relro = next(s for s in segments if s["p_type"] == "PT_GNU_RELRO")
        start, end = base + relro["p_vaddr"], base + relro["p_vaddr"] + relro["p_memsz"]
    covered = [flags for at, to, flags in maps if at < end and to > start - start % 4096]
    assert end % 4096 == 0
    assert set(covered) == {"r--p"}


@pytest.mark.parametrize("pages", ["huge", "ordinary", "any address"])
def test_every_key_is_found_at_every_address(stand_in: Path, pages: str) -> None:
    """Of each dict and set that can be reached: a hash by address would lose it."""
    for _ in range(5):
        done = launch(stand_in, "keys", pages)
        assert (done.returncode, done.stderr) == (0, "")
        dicts, keys, by_address = map(int, done.stdout.split())
        assert dicts > 500
        assert keys > 4500
        assert by_address >= 3  # those of the stand-in: this test would see a wrong hash


def test_what_the_snapshot_was_taken_without(stand_in: Path) -> None:
    done = run(stand_in, "absent")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("pages", ["ordinary", "any address"])
def test_where_no_huge_page_can_be_had(executable: Path, pages: str) -> None:
    done = launch(executable, "cfs-mount", pages, "--version")
    assert (done.returncode, done.stdout) == (0, f"cfs-mount {pyinit.VERSION}\n")


def test_advice_that_the_kernel_does_not_know(executable: Path) -> None:
    """Linux before 5.14, or without huge pages."""
    options = ["-e", "inject=madvise:error=EINVAL", "-o", "/dev/null"]
    done = run("strace", *options, executable, "cfs-mount", "--version")
    assert (done.returncode, done.stdout) == (0, f"cfs-mount {pyinit.VERSION}\n")


def test_the_environment_is_that_of_the_process(stand_in: Path) -> None:
    environment = {b"A": b"1", b"caf\xe9": b"a=b\xff", b"EMPTY": b""}
    done = subprocess.run(
        [bytes(stand_in), b"environment"], env=environment, capture_output=True, timeout=600,
        check=True,
    )  # fmt: skip
    assert done.stdout == b"A=1\ncaf\xe9=a=b\xff\nEMPTY=\n"
    done = subprocess.run(
        [bytes(stand_in), b"environment"], env={}, capture_output=True, timeout=600, check=True
    )
    assert done.stdout == b""


def test_errors_have_the_texts_that_the_host_has(stand_in: Path) -> None:
    """Of all numbers up to the last: musl has others, and none for EUCLEAN."""
    last = 133  # EHWPOISON
    done = run(stand_in, "errors", str(last + 1))
    texts = [os.strerror(number) for number in range(last + 1)]
    differ = [
        (host, ours)
        for host, ours in zip(texts, done.stdout.splitlines(), strict=True)
        if host != ours and not host.startswith(("Success", "Unknown error"))
    ]
    assert not differ


def test_memory_that_is_limited_ends_in_one_line(stand_in: Path) -> None:
    """Not in a crash, and what there is can be used."""
    limit = 64 << 20
    done = subprocess.run(
        [stand_in, "memory"], capture_output=True, text=True, timeout=600, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 20 << 20 < int(done.stdout) < limit


def test_it_starts_with_little_address_space(executable: Path) -> None:
    limit = 12 << 20
    done = subprocess.run(
        [executable, "cfs-mount", "--version"], capture_output=True, text=True, timeout=600,
        check=False, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"cfs-mount {pyinit.VERSION}\n")
