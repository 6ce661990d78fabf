"""What users have: frameworks above the servers, and client libraries as second hosts in the same world."""

from __future__ import annotations

import hashlib

import fastapi
import httpx
import pytest
import quart
import starlette.applications
import starlette.responses
import starlette.routing
import websockets

from models.websocket import WebSocketClient, text
from sim import World
from sim.registry import find_subject
from sim.world.choices import Choices

from .worlds import QUICK, Here, echo, play, websocket

SERVERS = ("uvicorn[h11,wsproto]", "uvicorn[httptools,websockets-sansio]", "hypercorn")
pytestmark = pytest.mark.usefixtures("paper", "worlds")


def on_starlette():
    def plain(request):
        return starlette.responses.JSONResponse({"hello": request.path_params["name"]})

    async def conversation(socket):
        await socket.accept()
        async for message in socket.iter_text():
            await socket.send_text(message)

    routes = [
        starlette.routing.Route("/{name}", plain),
        starlette.routing.WebSocketRoute("/chat", conversation),
    ]
    return starlette.applications.Starlette(routes=routes)


def on_fastapi():
    app = fastapi.FastAPI()

    @app.get("/{name}")
    def plain(name: str):
        return {"hello": name}

    @app.websocket("/chat")
    async def conversation(socket: fastapi.WebSocket):
        await socket.accept()
        async for message in socket.iter_text():
            await socket.send_text(message)

    return app


def on_quart():
    app = quart.Quart(__name__)

    @app.get("/<name>")
    async def plain(name: str):
        return {"hello": name}

    @app.websocket("/chat")
    async def conversation():
        while True:
            await quart.websocket.send(await quart.websocket.receive())

    return app


def with_a_library(server, app, main, picks=()):
    """A world with a server, and a second process that runs `main`."""

    def scene(world):
        find_subject(server).serve(world, Here(app))
        process = world.start_process("visitor", main)

        async def until_it_is_done(host):
            while not process.exited:
                await host.sleep(0.1)
            assert process.exit_reason is None, process.exit_reason

        world.start_script("watcher", until_it_is_done)

    with World(Choices(picks), QUICK) as world:
        world.run(scene)
        return world.trace


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("framework", [on_starlette, on_fastapi, on_quart], ids=["starlette", "fastapi", "quart"])
def test_a_framework_and_the_clients_that_people_use(framework, server):
    got = []

    async def main():
        async with websockets.connect("ws://127.0.0.1:8000/chat") as socket:
            await socket.send("hi")
            got.append(await socket.recv())
        async with httpx.AsyncClient(base_url="http://127.0.0.1:8000") as client:
            for _ in range(2):
                got.append((await client.get("/bob")).json())

    traces = {hashlib.sha256(with_a_library(server, framework(), main).to_jsonl().encode()).digest() for _ in range(3)}
    assert got == ["hi", {"hello": "bob"}, {"hello": "bob"}] * 3
    assert len(traces) == 1


def test_httpx_over_tls(paper):
    got = []

    async def main():
        import ssl

        context = ssl.create_default_context(cafile=paper.authority)
        async with httpx.AsyncClient(verify=context) as client:
            got.append((await client.get("https://127.0.0.1:8000/bob")).json())

    def scene(world):
        find_subject("hypercorn").serve(world, Here(on_quart()), certificate=paper.certificate)
        process = world.start_process("visitor", main)

        async def until_it_is_done(host):
            while not process.exited:
                await host.sleep(0.1)

        world.start_script("watcher", until_it_is_done)

    with World(Choices(), QUICK) as world:
        world.run(scene)
    assert got == [{"hello": "bob"}]


# permessage-deflate (RFC 7692).


@pytest.mark.parametrize(
    "server",
    [
        "uvicorn[h11,wsproto]",
        "uvicorn[h11,websockets-sansio]",
        pytest.param(
            "uvicorn[h11,websockets]",
            marks=pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
        ),
        "hypercorn",
    ],
)
def test_messages_are_compressed_where_both_sides_agree(server):
    message = "the same again, " * 200

    async def client(host, server):
        conversation = WebSocketClient(host)
        await conversation.connect(server.address, deflate=True)
        conversation.send(text(message), text(message))
        echoes = [(await conversation.receive()).data for _ in range(2)]
        await conversation.close(1000)
        return conversation.compressed, echoes, conversation.close_code

    played = play(server, websocket(echo), client)
    assert played.result == (True, [message, message], 1000)
    sizes = [len(e.data) for e in played.trace if e.kind == "tcp.send" and e.segment.startswith("text")]
    assert sizes
    assert max(sizes) < 100


def test_the_reference_server_does_not_compress():
    async def client(host, server):
        conversation = WebSocketClient(host)
        await conversation.connect(server.address, deflate=True)
        return conversation.compressed

    assert play("reference", websocket(echo), client).result is False
