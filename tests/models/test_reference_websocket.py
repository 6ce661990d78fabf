"""The reference server against the specifications: WebSocket."""

from __future__ import annotations

import asyncio

import pytest
from wsproto import events as ws

from models.asgi import AppReturned, AsgiIllegal
from models.reference.websocket import CLOSE_SECONDS, QUEUE_LIMIT
from models.websocket import Refused, WebSocketClient, WsClose, WsGarbage, WsPong, binary, fragments, ping, pong, text

from .worlds import echo, frame, opened, play, raw, upgrade, websocket

ACCEPT, CLOSE = {"type": "websocket.accept"}, {"type": "websocket.close"}
CONNECT = {"type": "websocket.connect"}
pytestmark = pytest.mark.usefixtures("worlds")


def got_text(payload):
    return {"type": "websocket.receive", "text": payload}


def got_close(code, reason=""):
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def bare(conversation):
    """An application for the time before it accepts."""

    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await conversation(receive, send)
        else:
            await websocket(echo)(scope, receive, send)

    return app


def served(app, *scripts, **options):
    """Play; the server does not break ASGI."""
    played = play("reference", app, *scripts, **options)
    assert [e for e in played.of(AsgiIllegal) if e.side == "server"] == []
    assert played.of(WsGarbage) == []
    return played


def closes(played):
    return [(e.way, e.payload) for e in played.of(WsClose)]


async def listen(receive, send):
    """Receives until the client leaves."""
    while (await receive())["type"] == "websocket.receive":
        pass


async def chat(host, server):
    """Says two things and closes."""
    client = await opened(host, server)
    client.send(text("one"), binary(b"two"))
    said = [(await client.receive()).data for _ in range(2)]
    await client.close(1000)
    return said, client.close_code


# The opening handshake.


def test_a_conversation():
    played = served(websocket(echo), chat)
    assert played.result == (["one", b"two"], 1000)
    assert played.received() == [
        CONNECT,
        got_text("one"),
        {"type": "websocket.receive", "bytes": b"two"},
        got_close(1000),
    ]
    assert played.closed() == ["eof"]


def test_nothing_is_answered_before_the_application_does():
    async def app(receive, send):
        await asyncio.sleep(1.0)

    assert served(bare(app), raw(upgrade(), within=0.5)).result == (b"", "open")


@pytest.mark.parametrize(
    ("offered", "picked", "told"), [(("a", "b"), "b", "b"), (("a",), None, None), ((), None, None)]
)
def test_subprotocols(offered, picked, told):
    scopes = []

    async def app(scope, receive, send):
        if scope["type"] != "websocket":
            return await websocket(echo)(scope, receive, send)
        scopes.append(scope)
        await send({**ACCEPT, "subprotocol": picked, "headers": [(b"x-extra", b"1")]})
        await echo(receive, send)

    async def client(host, server):
        websocket_client = await opened(host, server, path="/chat?room=1", subprotocols=offered)
        await websocket_client.close()
        return websocket_client.subprotocol

    assert served(app, client).result == told
    assert scopes[0]["subprotocols"] == list(offered)
    assert (scopes[0]["path"], scopes[0]["query_string"], scopes[0]["scheme"]) == ("/chat", b"room=1", "ws")
    assert "method" not in scopes[0]


@pytest.mark.parametrize(
    "accept",
    [{"subprotocol": "not offered"}, {"headers": [(b"sec-websocket-protocol", b"a")]}],
)
def test_an_accept_that_the_specification_forbids_raises(accept):
    async def app(receive, send):
        with pytest.raises(Exception, match="(?i)subprotocol"):
            await send({**ACCEPT, **accept})
        await send(CLOSE)

    assert served(bare(app), raw(upgrade())).result[0].startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(("how", "status"), [("close", 403), ("return", 403), ("raise", 500)])
def test_a_handshake_that_is_turned_down(how, status):
    async def app(receive, send):
        await receive()
        if how == "close":
            await send({**CLOSE, "code": 4000})
            assert (await receive())["type"] == "websocket.disconnect"
            with pytest.raises(OSError, match="gone"):
                await send(ACCEPT)
        elif how == "raise":
            raise ValueError("no")

    async def client(host, server):
        try:
            await WebSocketClient(host).connect(server.address)
        except Refused as refused:
            return refused.status

    assert served(bare(app), client).result == status


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (upgrade().replace(b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), b"400"),
        (upgrade().replace(b"version: 13", b"version: 12"), b"426"),
    ],
)
def test_a_faulty_handshake(request_bytes, status):
    played = served(websocket(echo), raw(request_bytes))
    assert played.result[0].startswith(b"HTTP/1.1 " + status)
    assert (b"sec-websocket-version: 13" in played.result[0].lower()) == (status == b"426")
    assert played.received() == []


@pytest.mark.parametrize(
    "change", [(b"connection: Upgrade\r\n", b""), (b"GET", b"POST"), (b"websocket\r\n", b"h2c\r\n")]
)
def test_what_asks_for_no_websocket_is_a_request(change):
    assert b"alive /" in served(websocket(echo), raw(upgrade().replace(*change))).result[0]


def test_frames_that_come_with_or_before_the_accept_are_not_lost():
    async def app(receive, send):
        await receive()
        await asyncio.sleep(1.0)
        await send(ACCEPT)
        await echo(receive, send)

    played = served(bare(app), raw(upgrade() + frame(1, b"with"), 0.1, frame(1, b"before"), within=3.0))
    assert played.received()[1:3] == [got_text("with"), got_text("before")]
    assert played.result[0].endswith(b"\x81\x04with\x81\x06before")


@pytest.mark.parametrize("leave", ["fin", "rst"])
def test_a_client_that_is_gone_before_the_accept(leave):
    async def app(receive, send):
        await receive()
        assert await receive() == got_close(1006)
        with pytest.raises(OSError, match="gone"):
            await send(ACCEPT)

    played = served(bare(app), raw(upgrade(), 0.1, leave))
    assert played.result[0] == b""
    assert played.logged() == []
    assert len([e for e in played.of(AppReturned) if e.actor == "websocket 1"]) == 1


# Messages and control frames.


def test_fragments_and_what_comes_between_them():
    async def client(host, server):
        websocket_client = await opened(host, server)
        first, *rest = fragments("one ", "and ", "one")
        websocket_client.send(first, ping(b"between"), pong(b"unsolicited"), *rest)
        whole = await websocket_client.receive()
        await websocket_client.close()
        return whole.data

    played = served(websocket(echo), client)
    assert played.result == "one and one"
    assert [e.payload for e in played.of(WsPong) if e.way == "gets"] == [b"between"]


def test_empty_messages_are_messages():
    async def client(host, server):
        websocket_client = await opened(host, server)
        websocket_client.send(text(""), binary(b""))
        answers = [(await websocket_client.receive()).data for _ in range(2)]
        await websocket_client.close()
        return answers

    assert served(websocket(echo), client).result == ["", b""]


def test_pings_are_answered_and_pongs_ignored_whatever_the_application_does():
    async def app(receive, send):
        await asyncio.sleep(2.0)

    async def client(host, server):
        websocket_client = await opened(host, server)
        websocket_client.send(pong(b"mine"), ping(b"1"), ping(b"2"))
        await websocket_client.drain(within=1.0)
        return host.now

    played = served(websocket(app), client)
    assert [(e.way, e.payload) for e in played.of(WsPong)] == [("sends", b"mine"), ("gets", b"1"), ("gets", b"2")]
    assert played.received() == [CONNECT]
    assert played.logged() == []


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": "websocket.send"}, ValueError),
        ({"type": "websocket.send", "text": "a", "bytes": b"b"}, ValueError),
        ({"type": "websocket.nonsense"}, RuntimeError),
        (ACCEPT, RuntimeError),
        ({"type": "http.response.start", "status": 200}, RuntimeError),
    ],
)
def test_what_send_refuses(message, error):
    async def app(receive, send):
        with pytest.raises(error):
            await send(message)
        await echo(receive, send)

    assert served(websocket(app), chat).result == (["one", b"two"], 1000)


def test_send_before_accept_raises():
    async def app(receive, send):
        with pytest.raises(RuntimeError, match="not expected now"):
            await send({"type": "websocket.send", "text": "x"})

    served(bare(app), raw(upgrade()))


def test_an_application_that_receives_nothing_is_sent_a_bounded_number_of_messages():
    """Backpressure: what it does not take stays with the client, and all of it is there when it does."""
    total = 4 * QUEUE_LIMIT
    size = 30_000

    async def app(receive, send):
        await asyncio.sleep(30.0)
        got = 0
        while (await receive())["type"] == "websocket.receive":
            got += 1
        assert got == total

    async def client(host, server):
        websocket_client = await opened(host, server)
        message = ws.BytesMessage(bytes(size))
        for _ in range(total):
            while True:
                try:
                    data = websocket_client._wire.send(message)
                    websocket_client.connection.send(data)
                    break
                except BlockingIOError:
                    await host.sleep(1.0)
        stalled = host.now
        await websocket_client.close(within=60.0)
        return stalled, websocket_client.close_code

    played = served(websocket(app), client)
    stalled, code = played.result
    assert 30.0 <= stalled < 40.0
    assert code == 1000


def test_a_cancelled_receive_loses_nothing():
    async def app(receive, send):
        got = []
        while len(got) < 3:
            try:
                got.append(await asyncio.wait_for(receive(), 0.01))
            except asyncio.TimeoutError:
                continue
        assert got == [got_text("1"), got_text("2"), got_close(1000)]

    async def client(host, server):
        websocket_client = await opened(host, server)
        for word in "12":
            await host.sleep(0.1)
            websocket_client.send(text(word))
        await host.sleep(0.1)
        await websocket_client.close()

    assert served(websocket(app), client).logged() == []


# The closing handshake.


@pytest.mark.parametrize(
    ("payload", "code", "reason"), [(b"", 1005, ""), (b"\x03\xe8bye", 1000, "bye"), (b"\x0f\xa1", 4001, "")]
)
def test_the_client_closes(payload, code, reason):
    played = served(websocket(echo), raw(upgrade(), 0.1, frame(8, payload)))
    assert played.received() == [CONNECT, got_close(code, reason)]
    assert played.result[0].endswith(b"\r\n\r\n" + bytes([0x88, len(payload)]) + payload)
    assert played.result[1] == "eof"


def test_the_answer_to_close_does_not_wait_for_the_application():
    async def app(receive, send):
        await asyncio.sleep(2.0)
        assert await receive() == got_close(1000)
        assert await receive() == got_close(1000)
        with pytest.raises(OSError, match="gone"):
            await send({"type": "websocket.send", "text": "x"})
        with pytest.raises(OSError, match="gone"):
            await send(CLOSE)

    async def client(host, server):
        websocket_client = await opened(host, server)
        await websocket_client.close(1000, within=1.0)
        return websocket_client.close_code

    played = served(websocket(app), client)
    assert played.result == 1000
    assert played.logged() == []


@pytest.mark.parametrize(
    ("close", "code"), [({}, 1000), ({"code": 4001, "reason": "enough"}, 4001), ({"code": 1001}, 1001)]
)
def test_the_application_closes(close, code):
    async def app(receive, send):
        await send({**CLOSE, **close})
        assert await receive() == got_close(code, close.get("reason", ""))

    async def client(host, server):
        websocket_client = await opened(host, server)
        event = await websocket_client.receive()
        await websocket_client.drain(within=5.0)
        return int(event.code), event.reason or ""

    played = served(websocket(app), client)
    assert played.result == (code, close.get("reason", ""))
    assert closes(played) == [("gets", code), ("sends", code)]
    assert played.closed() == ["eof"]


@pytest.mark.parametrize(("dies", "code"), [(False, 1000), (True, 1011)])
def test_the_application_ends(dies, code):
    async def app(receive, send):
        if dies:
            raise ValueError("bang")

    async def client(host, server):
        await (await opened(host, server)).drain(within=5.0)

    played = served(websocket(app), client)
    assert closes(played) == [("gets", code), ("sends", code)]
    assert played.logged() == ["ERROR the application raised"] * dies


def test_behind_its_own_close_the_application_gets_no_message_and_cannot_send():
    async def app(receive, send):
        await asyncio.sleep(0.5)
        await send(CLOSE)
        with pytest.raises(RuntimeError, match="not expected now"):
            await send({"type": "websocket.send", "text": "x"})
        with pytest.raises(RuntimeError, match="not expected now"):
            await send(CLOSE)
        assert await receive() == got_close(1000)

    async def client(host, server):
        websocket_client = await opened(host, server)
        websocket_client.send(text("queued"))
        await websocket_client.drain(within=5.0)

    served(websocket(app), client)


def test_closes_that_cross():
    async def app(receive, send):
        await send({**CLOSE, "code": 4001})
        assert (await receive())["type"] == "websocket.disconnect"

    played = served(websocket(app), raw(upgrade() + frame(8, b"\x03\xe8"), within=2.0))
    assert played.result[0].count(b"\x88\x02") == 1
    assert played.result[1] == "eof"


@pytest.mark.parametrize("receives", [True, False])
def test_a_client_that_does_not_answer_close_is_waited_for_no_longer_than_it_says(receives):
    async def app(receive, send):
        await send(CLOSE)
        if receives:
            assert await receive() == got_close(1006)

    async def client(host, server):
        answer = await raw(upgrade(), within=60.0)(host, server)
        return answer, host.now

    (text_, end), now = served(websocket(app), client).result
    assert text_.endswith(b"\x88\x02\x03\xe8")
    assert end == "eof"
    assert now == pytest.approx(CLOSE_SECONDS, abs=0.5)


def test_a_deaf_application_does_not_stop_the_closing_handshake():
    """More messages wait than the server takes ahead; when the application ends, they are in nobody's way."""

    async def app(receive, send):
        await asyncio.sleep(1.0)

    async def client(host, server):
        websocket_client = await opened(host, server)
        websocket_client.connection.send(frame(1, b"x") * 4 * QUEUE_LIMIT)
        await websocket_client.drain(within=60.0)
        return host.now

    played = served(websocket(app), client)
    assert closes(played) == [("gets", 1000), ("sends", 1000)]
    assert played.result < 2.0


# What breaks.


@pytest.mark.parametrize("leave", ["fin", "rst"])
def test_a_connection_that_ends_without_close_is_1006(leave):
    played = served(websocket(echo), raw(upgrade(), 0.1, frame(1, b"x"), 0.1, leave))
    assert played.received() == [CONNECT, got_text("x"), got_close(1006)]
    assert played.logged() == []


@pytest.mark.parametrize(
    ("breach", "code"),
    [
        (frame(1, b"\xff"), 1007),
        (frame(8, b"\x03\xe8\xff"), 1007),
        (frame(8, b"\x03\xee"), 1002),
        (frame(8, b"\x03"), 1002),
        (frame(0, b"x"), 1002),
        (frame(1, b"x", masked=False), 1002),
        (frame(9, b"x", fin=False), 1002),
        (bytes([0x80 | 0x40 | 1, 0x80, 0, 0, 0, 0]), 1002),
        (frame(3), 1002),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_a_breach_of_the_protocol_is_answered_with_its_code_behind_what_was_whole(breach, code, together):
    sends = [frame(1, b"whole") + breach] if together else [frame(1, b"whole"), 0.1, breach]
    played = served(websocket(listen), raw(upgrade(), 0.1, *sends))
    assert played.received() == [CONNECT, got_text("whole"), got_close(1006)]
    assert b"\x88\x02" + code.to_bytes(2, "big") in played.result[0]
    assert played.result[1] == "eof"
    assert played.logged() == []


# The server's end.


@pytest.mark.parametrize("moment", ["open", "handshake"])
def test_graceful_shutdown_goes_away(moment):
    async def app(receive, send):
        if moment == "handshake":
            await asyncio.sleep(1.0)
        await send(ACCEPT)
        await receive()
        await echo(receive, send)

    async def client(host, server):
        if moment == "open":
            websocket_client = await opened(host, server)
        else:
            websocket_client = WebSocketClient(host)
            opening = host.world.start_fiber("opening", websocket_client.connect(server.address))
            await host.sleep(0.5)
        server.process.kill(15)
        if moment == "handshake":
            await opening.join()
        await websocket_client.drain(within=5.0)
        return websocket_client.close_code

    played = served(bare(app), client)
    assert played.result == 1001
    assert played.received()[-1]["code"] == 1001
    assert played.server.process.exited
    assert [e["type"] for e in played.received("lifespan")] == ["lifespan.startup", "lifespan.shutdown"]
