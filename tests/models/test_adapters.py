"""The real servers in a world: start-up, requests, WebSocket, graceful shutdown, and how they are named."""

from __future__ import annotations

import asyncio
import sys
from importlib import metadata

import pytest

from models.application import Application
from models.asgi import AsgiIllegal
from models.http1 import HttpClient
from models.uvicorn import COMBINATIONS
from models.websocket import text
from sim import StartupError, UsageError
from sim.registry import find_subject

from .worlds import alive, answer, echo, find, opened, play, websocket

REAL = (*COMBINATIONS, "hypercorn")
EVERY = (*REAL, "granian==1.4.1", "granian==1.4.2", "reference")
pytestmark = [
    pytest.mark.usefixtures("worlds"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
]


def stateful():
    """Takes part in lifespan, shares state, answers HTTP with it, echoes WebSocket."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["greeting"] = b"hello"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            await receive()
            await answer(send, scope["state"]["greeting"] + b" " + scope["path"].encode())
        else:
            await websocket(echo)(scope, receive, send)

    return app


async def visit(host, server):
    """Two requests, a conversation, SIGTERM."""
    http = HttpClient(host)
    await http.connect(server.address)
    bodies = [(await http.request(path)).body for path in ("/1", "/2")]
    http.close()
    client = await opened(host, server)
    client.send(text("hi"))
    bodies.append((await client.receive()).data)
    await client.close(1000)
    server.process.kill(15)
    while not server.process.exited:
        await host.sleep(0.5)
        assert host.now < 60.0
    return bodies, client.close_code


@pytest.mark.parametrize("server", EVERY)
def test_a_visit_from_startup_to_shutdown(server):
    played = play(server, stateful(), visit)
    assert played.result == ([b"hello /1", b"hello /2", "hi"], 1000)
    assert [m["type"] for m in played.received("lifespan")] == ["lifespan.startup", "lifespan.shutdown"]
    assert played.of(AsgiIllegal) == []
    assert played.logged() == []
    assert played.server.process.exit_reason is None


@pytest.mark.parametrize("server", REAL)
def test_a_request_that_runs_is_finished_at_shutdown(server):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await asyncio.sleep(2.0)
        await alive(scope, receive, send)

    async def client(host, server):
        http = HttpClient(host)
        await http.connect(server.address)
        host.world.call_later(1.0, lambda: server.process.kill(15))
        return (await http.request("/slow")).body

    played = play(server, app, client)
    assert played.result == b"alive /slow"
    assert played.received("lifespan")[-1] == {"type": "lifespan.shutdown"}


@pytest.mark.parametrize("server", REAL)
def test_shutdown_with_a_websocket_and_an_idle_connection_open(server):
    """Both get their end from the server, and the process exits. uvicorn tells the application; hypercorn cancels it.

    From Python 3.12.1 on, where `Server.wait_closed` waits for connections, hypercorn waits for the client to leave first.
    """
    waits = server == "hypercorn" and sys.version_info >= (3, 12, 1)

    async def client(host, server):
        http = HttpClient(host)
        await http.connect(server.address)
        await http.request("/")
        conversation = await opened(host, server)
        host.world.call_later(1.0, lambda: server.process.kill(15))
        await conversation.drain(within=60.0)
        rest = await http.connection.receive(within=60.0)
        http.close()
        conversation.connection.close()
        while not server.process.exited:
            await host.sleep(0.5)
            assert host.now < 120.0
        return conversation.close_code, rest

    played = play(server, websocket(echo), client)
    assert played.result == (None if waits else 1011 if server == "hypercorn" else 1012, b"")
    told = played.received()[-1]["type"] == "websocket.disconnect"
    assert told == (server != "hypercorn" or waits)
    assert played.received("lifespan")[-1] == {"type": "lifespan.shutdown"}


@pytest.mark.parametrize("server", EVERY)
def test_a_startup_that_fails_is_told_with_its_reason(server):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database today"})

    with pytest.raises(StartupError, match="no database today"):
        play(server, app, visit)


@pytest.mark.parametrize("server", ["uvicorn[h11,wsproto]", "hypercorn", "granian==1.4.1", "reference"])
def test_a_startup_that_never_ends_is_told(server):
    async def app(scope, receive, send):
        await asyncio.Event().wait()

    with pytest.raises(
        StartupError, match=r"(?s)uvicorn|hypercorn|granian|reference|server.*(does not listen|did not start)"
    ):
        play(server, app, visit)


def test_options_reach_the_server():
    async def client(host, server):
        http = HttpClient(host)
        await http.connect(server.address)
        return (await http.request("/")).header(b"server")

    assert play("uvicorn[h11,wsproto]", alive, client).result == b"uvicorn"
    assert play("uvicorn[h11,wsproto]", alive, client, server_header=False).result is None
    assert play("hypercorn", alive, client).result == b"hypercorn-h11"
    assert play("hypercorn", alive, client, include_server_header=False).result is None


# Names.


@pytest.mark.parametrize("requirement", COMBINATIONS)
def test_a_combination_names_itself_and_its_versions(requirement):
    subject = find(requirement)
    http, ws = requirement[len("uvicorn[") : -1].split(",")
    assert (subject.requirement, subject.kind, subject.http, subject.ws) == (requirement, "real", http, ws)
    library = "wsproto" if ws == "wsproto" else "websockets"
    assert subject.versions == {name: metadata.version(name) for name in ("uvicorn", http, library)}


@pytest.mark.parametrize(
    ("requirement", "canonical"),
    [
        ("uvicorn", "uvicorn[httptools,websockets-sansio]"),
        ("uvicorn[h11]", "uvicorn[h11,websockets-sansio]"),
        ("uvicorn[wsproto]", "uvicorn[httptools,wsproto]"),
        ("uvicorn[wsproto,h11]>=0.30", "uvicorn[h11,wsproto]"),
        ("Hypercorn", "hypercorn"),
    ],
)
def test_a_shorter_name_means_a_whole_one(requirement, canonical):
    assert find_subject(requirement).requirement == canonical


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        (
            "uvicorn[h12]",
            "uvicorn has no combination with 'h12'. It takes one of h11, httptools and one of websockets, ",
        ),
        ("uvicorn[h11,httptools]", "h11 and httptools exclude one another. Pick one of h11, httptools."),
        ("uvicorn[wsproto,websockets]", "websockets and wsproto exclude one another. Pick one of websockets, "),
        ("uvicorn==0.1", "uvicorn==0.1 asks for another version than the one installed here, which is "),
        ("hypercorn[h2]", "hypercorn has no combination with 'h2'. It takes no extras."),
        ("hypercorn<0.1", "hypercorn<0.1 asks for another version than the one installed here, which is "),
    ],
)
def test_a_wrong_name_says_what_is_right(requirement, message):
    with pytest.raises(UsageError) as caught:
        find_subject(requirement)
    assert message in str(caught.value)


# Applications.


def test_an_application_by_name(tmp_path, monkeypatch):
    (tmp_path / "shop_of_test_adapters.py").write_text(
        "class Shop:\n    app = staticmethod(lambda scope, receive, send: None)\n"
        "def make(colour):\n    return lambda *_: colour\n"
        "number = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert Application("shop_of_test_adapters:Shop.app").load()(1, 2, 3) is None
    assert Application("shop_of_test_adapters:make", {"colour": "red"}).load()() == "red"
    for target, message in [
        ("shop_of_test_adapters", "is not of the form module:attribute"),
        (":app", "is not of the form module:attribute"),
        ("shop_of_test_adapters:", "is not of the form module:attribute"),
        ("shop_of_test_adapters:Shop.door", "has no attribute 'Shop.door'"),
        ("shop_of_test_adapters:number", "is a int, which cannot be called"),
        ("no_such_shop:app", "could not be imported: No module named 'no_such_shop'"),
    ]:
        with pytest.raises(UsageError, match=message):
            Application(target).load()


def test_an_application_that_raises_while_it_is_imported(tmp_path, monkeypatch):
    (tmp_path / "bad_shop_of_test_adapters.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="raised ZeroDivisionError while it was imported: division by zero"):
        Application("bad_shop_of_test_adapters:app").load()
