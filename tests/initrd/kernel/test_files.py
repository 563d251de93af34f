# SPDX-License-Identifier: Apache-2.0 OR MIT
import errno
import os
from pathlib import Path

import pytest

from pyinit.initrd.kernel import files


def test_whole_file_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for size in (0, 1, 65535, 65536, 65537, 200000):
        path.write_bytes(b"x" * size)
        assert len(files.read(str(path), 200000)) == size
        assert len(files.read(str(path), size)) == size
        if size:
            with pytest.raises(OSError, match=f"More than {size - 1} bytes") as caught:
                files.read(str(path), size - 1)
            assert caught.value.errno == errno.EFBIG


def test_beneath_a_directory_and_without_size(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert files.read("file", 3, fd) == b"abc"
    finally:
        os.close(fd)
    assert files.read("/proc/self/cmdline", 1 << 20)  # st_size is 0


def test_no_descriptor_is_left_and_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = os.listdir("/proc/self/fd")
    assert files.read(str(tmp_path / "fifo"), 10) == b""
    with pytest.raises(OSError, match="directory"):
        files.read(str(tmp_path), 10)
    assert os.listdir("/proc/self/fd") == before
