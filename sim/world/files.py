"""Files and descriptors in a world: real, but for the world's own sockets.

A world's Unix sockets have paths that only it knows (`sim.world.unix`), and its sockets have descriptors that only it
knows. Here the functions of `os` that meet them are answered; anything else goes on to the operating system.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Any

from sim.world import sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sim.world.unix import Node
    from sim.world.world import World


def functions() -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """The rows of this file for `sim.world.answers`."""
    yield os, "stat", _of_path(os.stat, lambda _w, node: node.stat())
    yield os, "lstat", _of_path(os.lstat, lambda _w, node: node.stat())
    yield os, "chmod", _of_path(os.chmod, _chmod)
    yield os, "chown", _of_path(os.chown, _chown)
    for name in ("unlink", "remove"):
        yield os, name, _of_path(getattr(os, name), lambda w, node: w.kernel.paths.unlink(node))
    yield os, "close", _of_descriptor(os.close, lambda _w, sock: sock.close())
    yield socket, "close", _of_descriptor(socket.close, lambda _w, sock: sock.close())
    yield os, "dup", _of_descriptor(os.dup, lambda _w, sock: sock.dup().detach())
    yield os, "sendfile", _of_descriptor(os.sendfile, _sendfile)
    yield socket, "fromfd", sockets.fromfd


def _of_path(original: Callable[..., Any], inside: Callable[..., Any]) -> Callable[..., Any]:
    """`inside` for a Unix socket of the world, `original` for any other path."""

    def answer(world: World, path: Any, *args: Any, **kwargs: Any) -> Any:
        node = world.kernel.paths.find(path)
        if node is None:
            return original(path, *args, **kwargs)
        for name in ("follow_symlinks", "dir_fd"):
            kwargs.pop(name, None)
        return inside(world, node, *args, **kwargs)

    return answer


def _chmod(_world: World, node: Node, mode: int) -> None:
    node.mode = stat.S_IMODE(mode)


def _chown(_world: World, node: Node, uid: int, gid: int) -> None:
    node.uid = node.uid if uid == -1 else uid
    node.gid = node.gid if gid == -1 else gid


def _of_descriptor(original: Callable[..., Any], inside: Callable[..., Any]) -> Callable[..., Any]:
    """`inside` for a simulated socket's descriptor, `original` for a real one."""

    def answer(world: World, fd: Any, *args: Any, **kwargs: Any) -> Any:
        sock = world.descriptors.find(fd) if isinstance(fd, int) else None
        return original(fd, *args, **kwargs) if sock is None else inside(world, sock, *args, **kwargs)

    return answer


_pread = os.pread


def _sendfile(_world: World, sock: sockets.SimSocket, in_fd: int, offset: int, count: int) -> int:
    """At most as much of the file as the send buffer has room for."""
    data = _pread(in_fd, count, offset)
    return sock.send(data) if data else 0
