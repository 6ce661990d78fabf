"""The scripted WebSocket client: what it records, and that nothing a server does breaks a script."""

from __future__ import annotations

import asyncio
import math

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws

from models.websocket import (
    DOTNET_KEEP_ALIVE_INTERVAL,
    Refused,
    WebSocketClient,
    WsBinary,
    WsClose,
    WsFragment,
    WsGarbage,
    WsHandshake,
    WsPing,
    WsPong,
    WsText,
    binary,
    dotnet_heartbeat,
    fragments,
    ping,
    pong,
    text,
)
from sim import Connection, Settings, World
from sim.world.choices import Choices

from .worlds import echo, find, frame, opened, play, websocket

ADDRESS = ("127.0.0.1", 8000)
pytestmark = pytest.mark.usefixtures("worlds")


def server_frame(opcode, payload=b"", **options):
    """A frame as a server puts it on the wire."""
    return frame(opcode, payload, masked=False, **options)


async def opening(connection):
    """Read an opening handshake and accept it, on a raw connection."""
    wire = WSConnection(ConnectionType.SERVER)
    while True:
        wire.receive_data(await connection.receive())
        for event in wire.events():
            if isinstance(event, ws.Request):
                return wire, event


def against(server, client, *, picks=(), settings=None):
    """Play a scripted client against a scripted server: `server(connection, host)` gets a raw connection.

    Returns the trace and what the client returned.
    """
    results = []

    def scene(world):
        kernel = world.kernel
        listener = kernel.listen(kernel.bind(ADDRESS), 10)
        listener.label = "server"

        async def accept(host):
            while not listener.readable:
                await host.sleep(0.001)
            await server(Connection(host, listener.accept()), host)

        async def follow(host):
            results.append(await client(host))

        world.start_script("server", accept, daemon=True)
        world.start_script("client", follow)

    with World(Choices(picks), settings or Settings(latency=(0.0, 0.0), horizon=300.0)) as world:
        world.run(scene)
        return world.trace, results[0]


def seen(trace):
    """What the client recorded, in short."""
    kinds = (WsHandshake, WsText, WsBinary, WsPing, WsPong, WsClose, WsFragment, WsGarbage)
    return [(type(e).__name__[2:], e.way, e.payload) for e in trace.of(*kinds)]


async def accepting(connection):
    wire, _ = await opening(connection)
    connection.send(wire.send(ws.AcceptConnection()))


async def client_of(host):
    client = WebSocketClient(host)
    await client.connect(ADDRESS)
    return client


# The opening handshake.


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", 403),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", None),
        (b"not HTTP at all\r\n\r\n", None),
        (b"", None),
        (None, None),
    ],
)
def test_a_refused_handshake_says_its_status(reply, status):
    async def server(connection, host):
        await opening(connection)
        if reply is None:
            connection.abort()
            return
        if reply:
            connection.send(reply)
        connection.shut_write()

    async def client(host):
        with pytest.raises(Refused) as refused:
            await client_of(host)
        return refused.value.status

    trace, result = against(server, client)
    assert result == status
    assert seen(trace)[0] == ("Handshake", "sends", "/")
    if status is not None:
        assert seen(trace)[1] == ("Handshake", "gets", status)


def test_what_comes_together_with_101_is_not_lost():
    async def server(connection, host):
        wire, request = await opening(connection)
        assert request.subprotocols == ["a", "b"]
        connection.send(wire.send(ws.AcceptConnection(subprotocol="b")) + server_frame(1, b"at once"))

    async def client(host):
        websocket_client = WebSocketClient(host)
        await websocket_client.connect(ADDRESS, "/path", [(b"x-own", b"1")], subprotocols=["a", "b"])
        return websocket_client.subprotocol, (await websocket_client.receive()).data

    assert against(server, client)[1] == ("b", "at once")


# Messages.


def test_fragments_are_joined_both_ways_and_control_frames_between_them_seen():
    async def server(connection, host):
        await accepting(connection)
        connection.send(server_frame(1, b"one ", fin=False) + server_frame(9, b"?") + server_frame(0, b"message"))
        connection.send(server_frame(2, b"\x00", fin=False) + server_frame(0, b"\x01"))

    async def client(host):
        websocket_client = await client_of(host)
        got = [(await websocket_client.receive()).data for _ in range(2)]
        first, *rest = fragments("a", "b", "c")
        websocket_client.send(first, ping(), *rest)
        return got

    trace, got = against(server, client)
    assert got == ["one message", b"\x00\x01"]
    assert seen(trace)[2:] == [
        ("Fragment", "gets", "one "),
        ("Ping", "gets", b"?"),
        ("Text", "gets", "one message"),
        ("Fragment", "gets", b"\x00"),
        ("Binary", "gets", b"\x00\x01"),
        ("Fragment", "sends", "a"),
        ("Ping", "sends", b""),
        ("Fragment", "sends", "b"),
        ("Text", "sends", "abc"),
    ]


def test_pings_are_answered_with_their_payload_and_pongs_only_seen():
    answers = []

    async def server(connection, host):
        await accepting(connection)
        connection.send(server_frame(9, b"1") + server_frame(10, b"x") + server_frame(9, b"2"))
        while data := await connection.receive():
            answers.append(data[:1])

    async def client(host):
        websocket_client = await client_of(host)
        assert await websocket_client.receive(within=1.0) is None
        await websocket_client.close(within=1.0)

    trace, _ = against(server, client)
    assert [e for e in seen(trace) if e[0] in ("Ping", "Pong")] == [
        ("Ping", "gets", b"1"),
        ("Pong", "gets", b"x"),
        ("Ping", "gets", b"2"),
    ]
    assert b"".join(answers).count(b"\x8a") >= 1


def test_a_timeout_is_none_and_takes_its_time():
    async def client(host, server):
        websocket_client = await opened(host, server)
        began = host.now
        assert await websocket_client.receive(within=2.5) is None
        assert websocket_client.open
        waited = host.now - began
        assert await websocket_client.receive(within=-1.0) is None
        websocket_client.send(text("still here"))
        assert (await websocket_client.receive(within=2.5)).data == "still here"
        await websocket_client.close()
        return waited

    assert play("reference", websocket(echo), client).result == pytest.approx(2.5)


def test_what_a_script_cannot_send_is_a_type_error():
    async def client(host, server):
        websocket_client = await opened(host, server)
        with pytest.raises(TypeError, match="cannot send"):
            websocket_client.send(ws.Request(host="x", target="/"))

    play("reference", websocket(echo), client)


def test_send_in_any_order_meets_every_order_once():
    orders = []
    subject = find("reference")

    async def client(host, server):
        websocket_client = await opened(host, server)
        websocket_client.send_in_any_order(text("a"), text("b"), binary(b"c"), pong())
        for _ in range(3):
            await websocket_client.receive()
        await websocket_client.close()

    stack = [()]
    while stack:
        picks = stack.pop()
        played = play(subject, websocket(echo), client, picks=picks)
        sent = [e.payload for e in played.of(WsText, WsBinary, WsPong) if e.way == "sends"]
        orders.append(tuple(sent))
        for place, width in list(enumerate((4, 3, 2)))[len(picks) :]:
            stack += [(*picks, *[0] * (place - len(picks)), pick) for pick in range(1, width)]
    assert len(orders) == len(set(orders)) == math.factorial(4)


# Closing.


def test_the_client_begins():
    async def client(host, server):
        websocket_client = await opened(host, server)
        await websocket_client.close(4000)
        websocket_client.send(text("dropped"))
        return websocket_client.began_close, websocket_client.close_code, websocket_client.open

    played = play("reference", websocket(echo), client)
    assert played.result == (True, 4000, False)
    assert seen(played.trace)[2:] == [("Close", "sends", 4000), ("Close", "gets", 4000)]


@pytest.mark.parametrize(("payload", "code"), [(b"", 1005), (b"\x03\xe9bye", 1001)])
def test_the_server_begins_and_is_answered_alike(payload, code):
    answers = []

    async def server(connection, host):
        await accepting(connection)
        connection.send(server_frame(8, payload))
        answers.append(await connection.receive(within=1.0))
        connection.close()

    async def client(host):
        websocket_client = await client_of(host)
        event = await websocket_client.receive()
        assert isinstance(event, ws.CloseConnection)
        await websocket_client.close()
        return websocket_client.began_close, websocket_client.close_code

    trace, result = against(server, client)
    assert result == (False, code)
    assert seen(trace)[2:] == [("Close", "gets", code), ("Close", "sends", code)]
    assert len(answers[0]) == 6 + len(payload)


def test_closes_that_cross_are_not_answered():
    async def server(connection, host):
        await accepting(connection)
        await host.sleep(1.0)
        connection.send(server_frame(8, b"\x03\xe9"))
        connection.close()

    async def client(host):
        websocket_client = await client_of(host)
        await host.sleep(1.0)
        await websocket_client.close(1000)
        return websocket_client.began_close, websocket_client.close_code

    trace, result = against(server, client)
    assert result == (True, 1001)
    assert seen(trace)[2:] == [("Close", "sends", 1000), ("Close", "gets", 1001)]


def test_what_comes_behind_its_own_close_is_read_and_pings_are_not_answered():
    async def server(connection, host):
        await accepting(connection)
        await connection.receive()
        connection.send(server_frame(1, b"late") + server_frame(9, b"?"))
        await host.sleep(0.1)
        connection.send(server_frame(8, b"\x03\xe8"))
        await host.sleep(0.1)
        connection.send(server_frame(1, b"behind Close"))
        connection.close()

    async def client(host):
        await (await client_of(host)).close(1000)

    trace, _ = against(server, client)
    assert seen(trace)[3:] == [("Text", "gets", "late"), ("Ping", "gets", b"?"), ("Close", "gets", 1000)]


def test_a_server_that_never_answers_close_is_not_waited_for_for_ever():
    async def server(connection, host):
        await accepting(connection)
        await host.sleep(1000.0)

    async def client(host):
        websocket_client = await client_of(host)
        began = host.now
        await websocket_client.close(within=7.0)
        return websocket_client.close_code, host.now - began

    assert against(server, client)[1] == (None, pytest.approx(7.0))


# What breaks.


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_connection_that_ends_without_close(how):
    async def server(connection, host):
        await accepting(connection)
        connection.send(server_frame(1, b"last"))
        if how == "fin":
            connection.close()
        else:
            await host.sleep(0.5)
            connection.abort()

    async def client(host):
        websocket_client = await client_of(host)
        assert (await websocket_client.receive()).data == "last"
        assert await websocket_client.receive() is None
        assert not websocket_client.open
        websocket_client.send(text("dropped"))
        assert await websocket_client.receive() is None
        await websocket_client.close()
        return websocket_client.close_code

    assert against(server, client)[1] is None


@pytest.mark.parametrize(
    "garbage",
    [server_frame(1, b"\xff"), frame(1, b"masked"), server_frame(3), server_frame(8, b"\x03\xee"), b"\xff\xff\xff"],
)
def test_garbage_is_seen_as_such_and_ends_the_conversation(garbage):
    async def server(connection, host):
        await accepting(connection)
        connection.send(server_frame(1, b"sound") + garbage)
        await host.sleep(1.0)
        connection.send(server_frame(1, b"too late"))

    async def client(host):
        websocket_client = await client_of(host)
        assert (await websocket_client.receive()).data == "sound"
        assert await websocket_client.receive() is None
        assert not websocket_client.open
        await host.sleep(2.0)
        await websocket_client.close()
        return websocket_client.close_code

    trace, code = against(server, client)
    assert code is None
    assert [e[:2] for e in seen(trace)[2:]] == [("Text", "gets"), ("Garbage", "gets")]


def test_sending_to_a_server_that_reset_the_connection_drops_it():
    async def server(connection, host):
        await accepting(connection)
        connection.abort()

    async def client(host):
        websocket_client = await client_of(host)
        await host.sleep(1.0)
        websocket_client.send(text("into the void"), text("not even tried"))
        assert not websocket_client.open
        await websocket_client.close()

    trace, _ = against(server, client)
    assert [e for e in seen(trace) if e[0] == "Text"] == [("Text", "sends", "into the void")]


# .NET.


def test_dotnets_heartbeat_beats_by_its_own_clock_whatever_arrives():
    async def app(receive, send):
        await asyncio.sleep(40.0)
        await send({"type": "websocket.send", "text": "meanwhile"})
        await echo(receive, send)

    async def client(host, server):
        websocket_client = await opened(host, server)
        await dotnet_heartbeat(websocket_client, beats=4)
        await websocket_client.close()

    beats = [e.time for e in play("reference", websocket(app), client).of(WsPong) if e.way == "sends"]
    assert beats == [pytest.approx(DOTNET_KEEP_ALIVE_INTERVAL * n) for n in (1, 2, 3, 4)]


def test_dotnets_heartbeat_ends_with_the_connection():
    async def app(receive, send):
        await asyncio.sleep(100.0)

    async def client(host, server):
        await dotnet_heartbeat(await opened(host, server))
        return host.now

    played = play("reference", websocket(app), client)
    assert played.result == pytest.approx(100.0)
    assert len([e for e in played.of(WsPong) if e.way == "sends"]) == 3


def test_what_is_sent_halfway_is_the_callers():
    def halfway(beat):
        return (text("x"),) if beat == 2 else ()

    async def client(host, server):
        websocket_client = await opened(host, server)
        await dotnet_heartbeat(websocket_client, interval=1.0, beats=3, halfway=halfway)
        await websocket_client.close()

    sent = [e for e in play("reference", websocket(echo), client).of(WsPong, WsText) if e.way == "sends"]
    assert [e.kind for e in sent] == ["ws.pong", "ws.text", "ws.pong", "ws.pong"]
    assert [e.time for e in sent] == [pytest.approx(t) for t in (1.0, 1.5, 2.0, 3.0)]


def test_a_close_that_comes_together_with_101_closes():
    async def server(connection, host):
        wire, _ = await opening(connection)
        connection.send(wire.send(ws.AcceptConnection()) + server_frame(8, b"\x03\xe9"))
        await host.sleep(1.0)

    async def client(host):
        websocket_client = await client_of(host)
        websocket_client.send(text("too late"))
        await websocket_client.close()
        return websocket_client.open, websocket_client.close_code

    trace, result = against(server, client)
    assert result == (False, 1001)
    assert seen(trace)[2:] == [("Close", "gets", 1001), ("Close", "sends", 1001)]
