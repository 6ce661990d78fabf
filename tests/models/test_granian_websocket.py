"""Granian's model, row by row of what was measured on the real one: the WebSocket state machine."""

from __future__ import annotations

import asyncio

import pytest

from models.asgi import AppRaised, AppReturned, AsgiReceiveCancelled, AsgiReceived
from models.granian.native import Dropped
from models.http1 import HttpClient, HttpCutOff, HttpResponse
from models.websocket import WsClose, WsPong, WsText, fragments, ping, pong, text
from sim import Settings

from .worlds import attempt, echo, frame, opened, play, raw, soon, upgrade, websocket

VERSIONS = ("granian==1.4.1", "granian==1.4.2")
FLOW, UNSUPPORTED = "ASGI flow error", "Unsupported ASGI message"
CONNECT, ACCEPT, CLOSE = ({"type": f"websocket.{t}"} for t in ("connect", "accept", "close"))
pytestmark = [pytest.mark.parametrize("version", VERSIONS), pytest.mark.usefixtures("worlds")]


def send_text(payload):
    return {"type": "websocket.send", "text": payload}


def got_text(payload):
    return {"type": "websocket.receive", "text": payload}


def got_close(code):
    return {"type": "websocket.disconnect", "code": code}


async def silent(host, server):
    """Opens and says nothing for a while."""
    client = await opened(host, server)
    await client.drain(within=3.0)


def bare(conversation):
    """An application for the time before it accepts."""

    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await conversation(receive, send)
        else:
            await websocket(echo)(scope, receive, send)

    return app


# Handshake.


def test_in_the_handshake_every_receive_is_connect(version):
    async def app(receive, send):
        for _ in range(3):
            await receive()

    assert play(version, bare(app), raw(upgrade())).received() == [CONNECT] * 3


def test_before_accept_sending_and_closing_are_flow_errors(version):
    async def app(receive, send):
        await attempt(send(send_text("x")))
        await attempt(send(CLOSE))

    played = play(version, bare(app), raw(upgrade()))
    assert played.failed_sends() == [("websocket.send", FLOW), ("websocket.close", FLOW)]


@pytest.mark.parametrize("dies", [False, True])
def test_an_application_that_ends_before_accept_is_a_403_and_the_connection_lives_on(version, dies):
    async def app(receive, send):
        await receive()
        if dies:
            raise ValueError("no")

    played = play(version, bare(app), raw(upgrade(), 0.1, upgrade()))
    answer, end = played.result
    assert answer.count(b"HTTP/1.1 403 ") == 2
    assert end == "open"
    assert played.logged() == ["ERROR Application callable raised an exception"] * 2 * dies


@pytest.mark.parametrize("leave", ["fin", "rst"])
def test_accepting_a_client_that_is_gone_is_a_flow_error_and_then_it_is_still_connecting(version, leave):
    async def app(receive, send):
        await asyncio.sleep(0.5)
        await receive()
        await attempt(send(ACCEPT))
        await attempt(send(send_text("x")))
        await attempt(send(CLOSE))
        await receive()

    played = play(version, bare(app), raw(upgrade(), 0.1, leave))
    assert played.received() == [CONNECT, CONNECT]
    assert played.failed_sends() == [("websocket.accept", FLOW), ("websocket.send", FLOW), ("websocket.close", FLOW)]
    if leave == "fin":
        assert played.result == (b"", "eof")


def test_a_client_that_left_behind_pipelined_frames_is_not_missed(version):
    """The server does not look for the client's end while it holds bytes that nobody has asked for."""

    async def app(receive, send):
        await asyncio.sleep(0.5)
        await send(ACCEPT)
        await receive()
        await attempt(receive())

    played = play(version, bare(app), raw(upgrade() + frame(1, b"early"), 0.1, "fin"))
    assert played.received() == [got_text("early"), FLOW]
    assert played.result[0].startswith(b"HTTP/1.1 101 ")


def test_a_second_accept_is_a_flow_error(version):
    async def app(receive, send):
        await attempt(send(ACCEPT))
        await receive()

    async def client(host, server):
        websocket = await opened(host, server)
        websocket.send(text("still works"))
        await websocket.close()

    played = play(version, websocket(app), client)
    assert played.failed_sends() == [("websocket.accept", FLOW)]
    assert played.received()[-1] == got_text("still works")


def test_frames_pipelined_behind_the_handshake_are_not_lost(version):
    played = play(version, websocket(echo), raw(upgrade() + frame(1, b"early") + frame(8, b"\x03\xe8")))
    assert played.received() == [CONNECT, got_text("early"), got_close(1000)]
    assert played.result[0].endswith(b"\x81\x05early\x88\x02\x03\xe8")


@pytest.mark.parametrize(
    ("request_bytes", "answer"),
    [
        (upgrade().replace(b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), b'No "Sec-WebSocket-Key" header'),
        (upgrade().replace(b"version: 13", b"version: 12"), b'No "Sec-WebSocket-Version: 13" header'),
    ],
)
def test_a_faulty_handshake_is_a_400(version, request_bytes, answer):
    played = play(version, websocket(echo), raw(request_bytes))
    assert played.result[0].startswith(b"HTTP/1.1 400 ")
    assert played.result[0].endswith(answer)
    assert played.received() == []


def test_the_accepted_subprotocol_is_told_and_offers_are_lines(version):
    offers = []

    async def app(scope, receive, send):
        if scope["type"] != "websocket":
            return await websocket(echo)(scope, receive, send)
        offers.extend(scope["subprotocols"])
        await send({"type": "websocket.accept", "subprotocol": "b"})
        await receive()

    played = play(
        version, app, raw(upgrade("/", "sec-websocket-protocol: a, b", "sec-websocket-protocol: c"), 0.1, "fin")
    )
    assert offers == ["a, b", "c"]
    assert b"sec-websocket-protocol: b\r\n" in played.result[0]


# Open.


def test_texts_and_bytes_are_received_with_one_key(version):
    async def client(host, server):
        websocket = await opened(host, server)
        websocket.connection.send(frame(1, b"a") + frame(2, b"b"))
        assert (await websocket.receive()).data == "a"
        assert (await websocket.receive()).data == b"b"
        await websocket.close()

    played = play(version, websocket(echo), client)
    assert played.received()[1:3] == [got_text("a"), {"type": "websocket.receive", "bytes": b"b"}]


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ({"type": "websocket.foo"}, UNSUPPORTED),
        ({"type": "websocket.send"}, UNSUPPORTED),
        ({"type": "websocket.send", "text": None, "bytes": None}, UNSUPPORTED),
        ({"type": "websocket.send", "text": "a", "bytes": b"b"}, UNSUPPORTED),
        ({"type": "http.response.start", "status": 200}, UNSUPPORTED),
        ({"type": "websocket.send", "text": None}, b"\x81\x00"),
        ({"type": "websocket.send", "bytes": None}, b"\x82\x00"),
        ({"type": "websocket.send", "bytes": None, "text": "a"}, b"\x81\x01a"),
        ({"type": "websocket.send", "bytes": b"b", "text": None}, b"\x82\x01b"),
    ],
)
def test_what_send_takes(version, message, sent):
    """What it does not take comes out of the future, not out of the call."""

    async def app(receive, send):
        future = send(message)
        await attempt(future)

    played = play(version, websocket(app), raw(upgrade()))
    if isinstance(sent, str):
        assert played.failed_sends() == [(message["type"], sent)]
    else:
        assert played.failed_sends() == []
        assert played.result[0].endswith(b"\r\n\r\n" + sent + b"\x88\x00")


def test_fragments_are_joined(version):
    async def client(host, server):
        websocket = await opened(host, server)
        websocket.send(*fragments("one ", "and ", "one"))
        assert (await websocket.receive()).data == "one and one"
        await websocket.close()

    assert got_text("one and one") in play(version, websocket(echo), client).received()


def test_a_pong_between_fragments(version):
    async def app(receive, send):
        await attempt(receive())
        await attempt(receive())

    async def client(host, server):
        websocket = await opened(host, server)
        first, last = fragments("one ", "message")
        websocket.send(first, pong(), last)
        await websocket.drain(within=1.0)

    received = play(version, websocket(app), client).received()
    if version == "granian==1.4.1":
        assert received[1:] == [FLOW, got_text("one message")]
    else:
        assert received[1] == got_text("one message")


def test_pings_are_answered_only_while_somebody_receives_and_then_each(version):
    async def app(receive, send):
        await asyncio.sleep(1.0)
        await send(send_text("not yet"))
        await receive()

    async def client(host, server):
        websocket = await opened(host, server)
        websocket.send(ping(b"1"), ping(b"2"))
        await websocket.drain(within=0.5)
        assert not websocket.host.world.trace.events[-1].kind == "ws.pong"
        websocket.send(ping(b"3"), text("go"))
        await websocket.drain(within=3.0)

    events = [(type(e), e.payload) for e in play(version, websocket(app), client).of(WsPong, WsText) if e.way == "gets"]
    assert events == [(WsText, "not yet"), (WsPong, b"1"), (WsPong, b"2"), (WsPong, b"3")]


def test_the_pong_of_issue_318(version):
    """With a receive() pending: warned and raised at once. The stream is untouched."""

    async def app(receive, send):
        await attempt(receive())
        await attempt(receive())

    async def client(host, server):
        websocket = await opened(host, server)
        websocket.send(pong(b"hb"))
        await host.sleep(0.5)
        websocket.send(text("behind"))
        await websocket.drain(within=1.0)

    played = play(version, websocket(app), client)
    if version == "granian==1.4.1":
        assert played.received()[1:] == [FLOW, got_text("behind")]
        assert played.logged() == ["WARNING Unsupported websocket message received Pong([104, 98])"]
    else:
        assert played.received()[1] == got_text("behind")
        assert played.logged() == []


def test_the_pong_that_nobody_receives_does_nothing_until_then(version):
    async def app(receive, send):
        await asyncio.sleep(1.0)
        await attempt(receive())
        await attempt(receive())

    async def client(host, server):
        websocket = await opened(host, server)
        websocket.send(pong(), text("behind"))
        await host.sleep(0.5)
        assert not [e for e in host.world.trace if e.kind.startswith("log.")]
        await websocket.drain(within=2.0)

    received = play(version, websocket(app), client).received()[1:]
    assert received[:2] == ([FLOW] if version == "granian==1.4.1" else []) + [got_text("behind")]


def test_results_are_dropped_when_the_application_cancels(version):
    """Data and cancellation at one instant: the frame is read, and goes with the receive() that read it."""

    async def app(receive, send):
        task = asyncio.ensure_future(receive())
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await attempt(receive())

    async def client(host, server):
        websocket = await opened(host, server)
        await host.sleep(0.4)
        websocket.send(text("lost"))
        websocket.send(text("kept"))
        await websocket.drain(within=2.0)

    seen = set()
    for picks in ([], [0, 1], [0, 2], [1], [2], [1, 1], [2, 1], [2, 2], [1, 2]):
        try:
            played = play(version, websocket(app), client, picks=picks, settings=Settings(latency=(0.0, 0.2)))
        except Exception as exc:  # a pick that this world does not offer
            assert type(exc).__name__ == "Divergence"
            continue
        assert len(played.of(AsgiReceiveCancelled)) <= 1
        after = played.received()[-1]
        seen.add((after["text"], bool(played.of(Dropped))))
    assert ("kept", True) in seen
    assert ("lost", False) in seen


# Closing, by the application.


def test_close_sends_an_empty_close_whatever_the_code(version):
    async def app(receive, send):
        await send({"type": "websocket.close", "code": 4001, "reason": "why"})
        await attempt(receive())
        await attempt(send(send_text("x")))
        await attempt(send(CLOSE))

    played = play(version, websocket(app), silent)
    assert [(e.way, e.payload) for e in played.of(WsClose)] == [("gets", 1005), ("sends", 1005)]
    assert played.received() == [CONNECT, FLOW]
    assert played.failed_sends() == [("websocket.send", FLOW), ("websocket.close", FLOW)]


def test_close_waits_for_the_reader_and_a_send_waits_behind_it(version):
    done = []

    async def app(receive, send):
        reading = await soon(receive())
        closing = await soon(send(CLOSE))
        sending = await soon(attempt(send(send_text("late"))))
        done.append((reading.done(), closing.done(), sending.done()))
        await asyncio.wait([reading, closing, sending])
        assert sending.result() == FLOW

    async def client(host, server):
        websocket = await opened(host, server)
        await websocket.drain(within=2.0)
        assert websocket.open
        websocket.send(text("let go"))
        await websocket.drain(within=2.0)

    played = play(version, websocket(app), client)
    assert done == [(False, False, False)]
    assert [(e.way, e.payload) for e in played.of(WsClose)] == [("gets", 1005), ("sends", 1005)]
    assert played.received() == [CONNECT, got_text("let go")]


def test_a_close_that_is_cancelled_while_it_waits_leaves_a_connection_that_ends_without_close(version):
    async def app(receive, send):
        reading = await soon(receive())
        closing = await soon(send(CLOSE))
        closing.cancel()
        reading.cancel()
        await asyncio.wait([reading, closing])
        assert await attempt(send(send_text("x"))) == FLOW
        reading = await soon(receive())
        assert not reading.done()
        reading.cancel()
        await asyncio.wait([reading])

    played = play(version, websocket(app), silent)
    assert played.of(WsClose) == []
    assert played.closed() == ["eof"]


@pytest.mark.parametrize("dies", [False, True])
def test_when_the_application_ends_the_client_gets_an_empty_close(version, dies):
    async def app(receive, send):
        if dies:
            raise ValueError("bang")

    played = play(version, websocket(app), silent)
    assert [(e.way, e.payload) for e in played.of(WsClose)] == [("gets", 1005), ("sends", 1005)]
    assert played.closed() == ["eof"]
    assert played.logged() == ["ERROR Application callable raised an exception"] * dies
    assert len(played.of(AppRaised if dies else AppReturned)) >= 1


def test_unread_data_makes_the_close_a_reset(version):
    async def app(receive, send):
        await asyncio.sleep(0.5)

    async def client(host, server):
        websocket = await opened(host, server)
        websocket.send(text("unread"))
        await websocket.drain(within=2.0)

    assert play(version, websocket(app), client).closed() == ["reset"]


# Closing, by the client.


def test_when_the_client_has_closed(version):
    async def app(receive, send):
        await receive()
        await attempt(receive())
        await attempt(send(send_text("swallowed")))
        await attempt(send(CLOSE))
        await attempt(send(CLOSE))

    async def client(host, server):
        await (await opened(host, server)).close(3001)

    played = play(version, websocket(app), client)
    assert played.received() == [CONNECT, got_close(3001), FLOW]
    assert played.failed_sends() == [("websocket.close", FLOW)]
    assert [(e.way, e.payload) for e in played.of(WsClose)] == [("sends", 3001), ("gets", 3001)]


def test_the_answer_to_close_waits_for_the_application(version):
    async def app(receive, send):
        await receive()
        await asyncio.sleep(2.0)

    async def client(host, server):
        websocket = await opened(host, server)
        await websocket.close(1000, within=1.0)
        return websocket.close_code

    assert play(version, websocket(app), client).result is None


@pytest.mark.parametrize(
    ("payload", "code", "answer"),
    [
        (b"", 1005, b"\x88\x00"),
        (b"\x03\xe8why", 1000, b"\x88\x05\x03\xe8why"),
        (b"\x03\xee", 1002, b"\x88\x14\x03\xeaProtocol violation"),
        (b"\x03\xe7", 1002, b"\x88\x14\x03\xeaProtocol violation"),
        (b"\x0f\xa1", 4001, b"\x88\x02\x0f\xa1"),
    ],
)
def test_codes_of_close(version, payload, code, answer):
    played = play(version, websocket(echo), raw(upgrade(), 0.1, frame(8, payload)))
    assert played.received() == [CONNECT, got_close(code)]
    assert played.result[0].endswith(b"\r\n\r\n" + answer)
    assert played.result[1] == "eof"


def test_a_close_that_is_not_read_yet_does_not_stop_a_send(version):
    """Text and Close in one segment: only one of them is looked at."""
    played = play(version, websocket(echo), raw(upgrade(), 0.1, frame(1, b"last") + frame(8, b"\x03\xe8")))
    assert played.received() == [CONNECT, got_text("last"), got_close(1000)]
    assert played.failed_sends() == []
    assert played.result[0].endswith(b"\x81\x04last\x88\x02\x03\xe8")


# Broken connections.


@pytest.mark.parametrize(
    ("breach", "closes"),
    [
        (["fin"], False),
        ([frame(1, b"\xff")], True),
        ([frame(1, b"x", masked=False)], True),
        ([frame(8, b"\x03\xe8\xff")], True),
        ([frame(8, b"\x03")], True),
        ([frame(0, b"continuation of nothing")], True),
    ],
)
def test_a_broken_connection_is_a_flow_error_for_ever(version, breach, closes):
    async def app(receive, send):
        for _ in range(3):
            await attempt(receive())

    played = play(version, websocket(app), raw(upgrade(), 0.1, *breach))
    assert played.received() == [CONNECT, FLOW, FLOW, FLOW]
    assert played.result[0].endswith(b"\r\n\r\n\x88\x00" if closes else b"\r\n\r\n")
    assert played.result[1] == "eof"


def test_sending_over_a_broken_connection(version):
    async def app(receive, send):
        await attempt(receive())
        await attempt(send(send_text("x")))
        await attempt(send(CLOSE))

    played = play(version, websocket(app), raw(upgrade(), 0.1, "rst"))
    assert played.received() == [CONNECT, FLOW]
    assert played.failed_sends() == [("websocket.send", FLOW)]


def test_what_was_whole_before_the_breach_is_received(version):
    played = play(version, websocket(echo), raw(upgrade(), 0.1, frame(1, b"whole") + frame(1, b"\xff")))
    assert played.received() == [CONNECT, got_text("whole"), FLOW]


# The freeze.


def frozen(*then):
    """The application ends while another task of it sits in receive(). Does anything help?"""
    left = []

    async def app(receive, send):
        left.append(asyncio.ensure_future(attempt(receive())))
        await asyncio.sleep(0.1)

    async def probe(host, server):
        await host.sleep(0.2)
        http = HttpClient(host)
        await http.connect(server.address)
        before = server.process.parked
        await http.request("/", within=1.0)
        received = [e.message for e in host.world.trace.of(AsgiReceived) if e.actor == "websocket 1"]
        return before, server.process.parked, received

    return websocket(app), raw(upgrade(), 0.5, *then, within=5.0), probe


@pytest.mark.parametrize("then", [[], [frame(1, b"text")], [frame(10)], [frame(8, b"\x03\xe8")]])
def test_the_worker_freezes_when_the_application_ends_while_a_task_receives(version, then):
    played = play(version, *frozen(*then))
    before, after, received = played.results[1]
    assert "the lock that receive() holds" in before
    assert after == before
    assert [type(e) for e in played.of(HttpResponse, HttpCutOff)] == [HttpCutOff]
    assert played.logged() == []
    assert received == [CONNECT]


def test_the_end_of_the_connection_unfreezes_it(version):
    played = play(version, *frozen("fin"))
    assert played.results[1][1] is None
    assert [e.body for e in played.of(HttpResponse)] == [b"alive /"]
    assert played.received() == [CONNECT, FLOW]


def test_a_task_that_was_cancelled_first_does_not_freeze_it(version):
    async def app(receive, send):
        task = await soon(receive())
        task.cancel()
        await asyncio.wait([task])

    async def probe(host, server):
        await host.sleep(0.5)
        http = HttpClient(host)
        await http.connect(server.address)
        return await http.request("/", within=1.0)

    assert play(version, websocket(app), silent, probe).results[1].body == b"alive /"


# Stopping.


def test_sigterm_cuts_whatever_is_open(version):
    async def client(host, server):
        websocket = await opened(host, server)
        server.process.kill(15)
        await websocket.drain(within=1.0)

    async def waiting(host, server):
        http = HttpClient(host)
        await http.connect(server.address)
        await http.request("/", within=0.1)
        await host.sleep(5.0)
        return await http.request("/")

    played = play(version, websocket(echo), client, waiting)
    assert played.closed() == ["eof"]
    assert played.of(WsClose) == []
    assert played.results[1] is None
    assert played.server.process.exited
    assert [e["type"] for e in played.received("lifespan")] == ["lifespan.startup", "lifespan.shutdown"]
