"""Real servers behind a Unix socket, as behind a reverse proxy: they make it, serve on it and clean it up."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

import pytest
import uvicorn
from hypercorn.asyncio import serve
from hypercorn.config import Config

from models.uvicorn import ticks
from sim import Settings, World

from .worlds import answer

pytestmark = pytest.mark.usefixtures("worlds")


async def app(scope, receive, send):
    assert scope["type"] == "http"
    await receive()
    await answer(send, b"hello " + scope["path"].encode())


def by_uvicorn(path):
    config = uvicorn.Config(app, uds=path, http="h11", ws="none", lifespan="off", log_config=None)
    return uvicorn.Server(config).serve()


def by_hypercorn(path):
    return serve(app, Config.from_mapping(bind=[f"unix:{path}"], errorlog=None))


@pytest.mark.parametrize("server", [by_uvicorn, by_hypercorn])
def test_a_server_at_a_path(server, tmp_path):
    path = str(tmp_path / "socket")
    answers, modes = [], []

    async def script(host):
        connection = await host.connect(path)
        connection.send(b"GET /%s HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % host.name.encode())
        got = b""
        while data := await connection.receive():
            got += data
        answers.append(got.rpartition(b"\r\n")[2])
        connection.close()

    async def main():
        with socket.socket(socket.AF_UNIX) as died_before:
            died_before.bind(path)
        with contextlib.suppress(SystemExit):
            await server(path)

    def play(world):
        process = world.start_process("server", main, ticks())

        def listens():
            node = world.kernel.paths.find(path)
            return node is not None and node.listener is not None

        assert world.run_until(lambda: listens() or process.exited, within=5.0)
        modes.append(stat.filemode(os.stat(path).st_mode))
        for name in ("one", "two"):
            world.start_script(name, script)

    with World(settings=Settings(shutdown=True)) as world:
        world.run(play)
        assert [process.exited for process in world.processes] == [True]
    assert sorted(answers) == [b"hello /one", b"hello /two"]
    assert modes == ["srwxr-xr-x"], "also uvicorn leaves it as it found it"
    assert list(tmp_path.iterdir()) == []
