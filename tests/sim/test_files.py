"""Files and descriptors inside a world: real ones go on to the operating system, the world's own are answered."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
import socket
import stat
import tempfile
from typing import TYPE_CHECKING

import pytest

from sim.world.boundary import Boundary

from .worlds import run_sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module", autouse=True)
def boundary() -> Iterator[None]:
    with Boundary():
        yield


def listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


def test_real_files_are_real(tmp_path: Path) -> None:
    def inside() -> None:
        listening(tmp_path / "socket")
        file = tmp_path / "file"
        file.write_text("text")
        assert os.stat(file).st_size == os.lstat(file).st_size == 4
        os.chmod(file, 0o600)
        os.chown(file, -1, -1)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with pytest.raises(FileNotFoundError):
            os.stat(tmp_path / "nothing")
        with pytest.raises(FileNotFoundError):
            os.unlink(tmp_path / "nothing")
        os.rename(file, tmp_path / "other")
        os.remove(tmp_path / "other")

    run_sync(inside)
    assert list(tmp_path.iterdir()) == []


def test_real_descriptors_are_real(tmp_path: Path) -> None:
    def inside() -> None:
        fd = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
        again = os.dup(fd)
        os.close(fd)
        os.write(again, b"abc")
        assert os.fstat(again).st_size == os.stat(again).st_size == 3
        os.close(again)
        with pytest.raises(OSError, match="Bad file descriptor") as raised:
            os.close(again)
        assert raised.value.errno == errno.EBADF

    run_sync(inside)


def test_a_path_of_the_worlds_own_however_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def inside() -> None:
        path = tmp_path / "socket"
        with listening(path):
            for name in (path, str(path), os.fsencode(path), "socket", "./socket", f"{tmp_path}/x/../socket"):
                assert stat.S_ISSOCK(os.stat(name).st_mode)
                assert os.path.exists(name)
            assert path.exists()
            assert path.is_socket()
            assert os.path.samestat(os.stat(path), os.lstat(path))
            path.chmod(0o640)
            assert stat.filemode(path.stat().st_mode) == "srw-r-----"
            os.chown(path, 7, 8)
            os.chown(path, -1, -1)
            assert (path.stat().st_uid, path.stat().st_gid) == (7, 8)
            path.unlink()
            assert not path.exists()
            with pytest.raises(FileNotFoundError):
                path.unlink()

    run_sync(inside)


def test_two_sockets_are_two_files(tmp_path: Path) -> None:
    def inside() -> None:
        with listening(tmp_path / "one"), listening(tmp_path / "two"):
            assert os.stat(tmp_path / "one").st_ino != os.stat(tmp_path / "two").st_ino

    run_sync(inside)


def test_a_path_belongs_to_one_world(tmp_path: Path) -> None:
    def inside() -> bool:
        listening(tmp_path / "socket")
        return os.path.exists(tmp_path / "socket")

    assert run_sync(inside)
    assert run_sync(inside), "the next one binds to it anew"
    assert not os.path.exists(tmp_path / "socket")


def test_sendfile_sends_what_there_is_room_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(100)) * 10_000)

    def inside() -> None:
        one, two = socket.socketpair()
        one.setblocking(False)
        with (tmp_path / "file").open("rb") as file:
            assert os.sendfile(one.fileno(), file.fileno(), 5, 10) == 10
            assert two.recv(100) == bytes(range(5, 15))
            sent = os.sendfile(one.fileno(), file.fileno(), 0, 1_000_000)
            assert 100_000 < sent < 1_000_000
            with pytest.raises(BlockingIOError):
                os.sendfile(one.fileno(), file.fileno(), 0, 1)
            assert os.sendfile(one.fileno(), file.fileno(), 1_000_000, 1) == 0, "the end of the file"

    run_sync(inside)


def test_libraries_that_ask_what_functions_can_do() -> None:
    """`os.supports_dir_fd` and its like hold the original functions."""

    def inside() -> None:
        assert os.stat in os.supports_dir_fd
        assert os.unlink in os.supports_dir_fd
        assert os.chmod in os.supports_fd
        assert {os.stat: 1}[os.stat] == 1
        with tempfile.TemporaryDirectory() as directory:
            below = pathlib.Path(directory) / "below"
            below.mkdir()
            (below / "file").touch()
            shutil.copy(below / "file", below / "copy")
            shutil.rmtree(below)
            assert not below.exists()

    run_sync(inside)


def test_the_originals_are_back_behind_the_boundary() -> None:
    originals = [getattr(os, name) for name in ("stat", "lstat", "unlink", "remove", "chmod", "close", "dup")]
    assert all(hasattr(function, "__wrapped__") for function in originals)
    assert all(function.__wrapped__.__module__ == "posix" for function in originals)
