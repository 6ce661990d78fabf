"""Each invariant catches a server that was broken on purpose, and that one alone, from the outside."""

from __future__ import annotations

import asyncio
import logging

import pytest
from wsproto import events as ws
from wsproto.connection import ConnectionState

import models.reference.http
import sim
from models.asgi import AsgiIllegal
from models.reference.websocket import WebSocket
from scenarios.applications import WORK

from .broken import Broken

PONG_STORY = {
    "handshake-completes",
    "pong-no-flow-error",
    "pong-unseen",
    "pong-unlogged",
    "texts-echoed",
    "close-handshake",
    "asgi-event-order",
}


def caught(scenario, wrong, **params):
    """The invariants that some order breaks when `wrong` stands between server and application."""
    report = sim.explore(scenario, server=Broken(wrong), params=params)
    assert report.complete
    return {d.invariant: d.message for d in report.discoveries}


async def nothing(app, scope, receive, send):
    await app(scope, receive, send)


@pytest.mark.parametrize("way", ["echo", "polling", "starlette", "deaf"])
def test_nothing_wrong_is_not_caught(way):
    assert caught("unsolicited_pong", nothing, receiving=way) == {}


async def loses_texts(app, scope, receive, send):
    async def lossy():
        while (message := await receive())["type"] == "websocket.receive":
            pass
        return message

    await app(scope, lossy, send)


async def repeats_texts(app, scope, receive, send):
    again = []

    async def repeating():
        if again:
            return again.pop()
        message = await receive()
        if message["type"] == "websocket.receive":
            again.append(dict(message))
        return message

    await app(scope, repeating, send)


async def loses_echoes(app, scope, receive, send):
    async def lossy(message):
        if message["type"] != "websocket.send":
            await send(message)

    await app(scope, receive, lossy)


async def repeats_echoes(app, scope, receive, send):
    async def repeating(message):
        await send(message)
        if message["type"] == "websocket.send":
            await send(message)

    await app(scope, receive, repeating)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (loses_texts, "the application received 'hello' never"),
        (repeats_texts, "the application received 'hello' twice"),
        (loses_echoes, "the client got the echo of 'hello' never"),
        (repeats_echoes, "the client got the echo of 'hello' twice"),
    ],
)
def test_texts_echoed_catches_a_text_that_is_not_received_or_echoed_exactly_once(wrong, message):
    found = caught("unsolicited_pong", wrong, receiving="echo")
    assert found.pop("texts-echoed") == message
    assert found == {}


async def connects_twice(app, scope, receive, send):
    told = []

    async def twice():
        told.append(1)
        return {"type": "websocket.connect"} if len(told) <= 2 else await receive()

    async def swallow(message):
        if message["type"] == "websocket.accept":
            await receive()
        await send(message)

    await app(scope, twice, swallow)


def test_event_order_catches_a_message_out_of_order():
    assert "asgi-event-order" in caught("unsolicited_pong", connects_twice, receiving="polling")


async def refuses(app, scope, receive, send):
    async def refusing(message):
        if message["type"] == "websocket.accept":
            await send({"type": "websocket.close"})
        else:
            await receive()

    await app(scope, receive, refusing)


@pytest.mark.parametrize("scenario", ["unsolicited_pong", "cancelled_receive", "workaround", "heartbeat"])
def test_handshake_catches_a_refusal_so_that_nothing_holds_for_want_of_a_websocket(scenario):
    params = {"hours": 0.1} if scenario == "heartbeat" else {}
    assert caught(scenario, refuses, **params)["handshake-completes"] == "the client asked for a WebSocket and got 403"


# What needs the inside of the server.


@pytest.fixture
def broken_inside(monkeypatch):
    """Have the reference server make its WebSockets of a subclass, and tell what catches it."""

    def break_it(scenario="unsolicited_pong", **params):
        def decorate(kind):
            monkeypatch.setattr(models.reference.http, "WebSocket", kind)
            return caught(scenario, nothing, **params)

        return decorate

    return break_it


def test_pong_unlogged_catches_a_warning_and_an_error(broken_inside):
    class Logs(WebSocket):
        async def _take(self, event):
            if isinstance(event, ws.Pong):
                logging.getLogger("reference").warning("what is this?")
            await super()._take(event)

    assert broken_inside(receiving="echo")(Logs) == {"pong-unlogged": "the server logged [WARNING] what is this?"}


def test_pong_unseen_catches_a_pong_that_is_passed_on(broken_inside):
    class PassesOn(WebSocket):
        async def _take(self, event):
            if isinstance(event, ws.Pong):
                self._queue.append({"type": "websocket.receive", "text": "pong"})
                self._bell.ring()
            await super()._take(event)

    found = broken_inside(receiving="echo")(PassesOn)
    assert found["pong-unseen"] == "the application received 'pong', which the client did not send as a message"
    assert set(found) == {"pong-unseen"}


def test_pong_no_flow_error_catches_an_error_out_of_receive(broken_inside):
    class Raises(WebSocket):
        async def _take(self, event):
            if isinstance(event, ws.Pong):
                self._queue.append({"type": "flow error"})
                self._bell.ring()
            await super()._take(event)

        async def _receive(self):
            message = await super()._receive()
            if message["type"] == "flow error":
                raise RuntimeError("ASGI flow error")
            return message

    assert "pong-no-flow-error" in broken_inside(receiving="echo")(Raises)


@pytest.mark.parametrize("code", [1001, None])
def test_close_handshake_catches_another_code_and_no_answer(broken_inside, code):
    class ClosesOtherwise(WebSocket):
        async def _take(self, event):
            if isinstance(event, ws.CloseConnection) and self._wire.state is ConnectionState.REMOTE_CLOSING:
                if code is not None:
                    await self._write(ws.CloseConnection(code))
                self._disconnected(1000, "")
            else:
                await super()._take(event)

    found = broken_inside(receiving="echo")(ClosesOtherwise)
    expected = "got Close 1001" if code else "never got one back"
    assert expected in found.pop("close-handshake")
    assert found == {}


def test_cancelled_receive_catches_a_text_that_goes_with_the_receive_that_took_it(broken_inside):
    class TakesItAlong(WebSocket):
        async def _receive(self):
            await self._bell.until(lambda: bool(self._queue))
            message = self._queue[0]
            if message["type"] == "websocket.receive":
                self._queue.popleft()
                await asyncio.sleep(2 * WORK)
            elif message["type"] == "websocket.connect":
                self._queue.popleft()
            return message

    strict = broken_inside("cancelled_receive")(TakesItAlong)
    assert strict == {"cancelled-receive-loses-nothing": "the application received 'hello' never"}


# The heartbeat's and the workaround's own.


def test_heartbeat_catches_a_text_that_is_lost_on_a_quiet_day():
    found = caught("heartbeat", loses_texts, hours=0.1, every=0.05)
    assert found == {"texts-echoed": "the application received 'message before beat 6' never"}


def test_workaround_catches_an_application_that_does_not_survive(broken_inside):
    class Raises(WebSocket):
        async def _receive(self):
            message = await super()._receive()
            if message["type"] == "websocket.receive":
                raise RuntimeError("another error")
            return message

    found = broken_inside("workaround")(Raises)
    assert found["application-survives"] == 'the application died of RuntimeError("another error")'


def test_workaround_catches_a_message_that_a_flow_error_swallows(broken_inside):
    class Swallows(WebSocket):
        async def _receive(self):
            message = await super()._receive()
            if message.get("bytes") == b"two":
                raise RuntimeError("ASGI flow error")
            return message

    found = broken_inside("workaround")(Swallows)
    assert found == {"texts-echoed": "the application received b'two' never"}


# Hello's.


async def wrong_body(app, scope, receive, send):
    async def other(message):
        await send({**message, "body": b"HELLO" + message["body"][5:]} if "body" in message else message)

    await app(scope, receive, other)


async def fails_the_second(app, scope, receive, send):
    if scope["path"] == "/2":
        raise RuntimeError("not again")
    await app(scope, receive, send)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(wrong_body, "the answers were"), (fails_the_second, "the answers were")],
)
def test_requests_answered_catches_a_wrong_answer(wrong, message):
    found = caught("hello", wrong)
    assert found.pop("requests-answered").startswith(message)
    assert found == {}


def test_requests_answered_catches_a_connection_that_is_cut():
    async def cuts(app, scope, receive, send):
        async def half(message):
            if "body" in message:
                await send({**message, "body": message["body"][:3], "more_body": True})
                raise RuntimeError("cut")
            await send(message)

        await app(scope, receive, half)

    assert caught("hello", cuts)["requests-answered"].startswith("a request was not answered: ")


def test_lifespan_paired_catches_a_shutdown_that_is_not_told():
    async def never_tells(app, scope, receive, send):
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        once = [{"type": "lifespan.startup"}]

        async def startup_only():
            if once:
                await receive()
                return once.pop()
            await receive()
            raise RuntimeError("the shutdown is kept from it")

        await app(scope, startup_only, send)

    never_tells.lifespan = True
    found = caught("hello", never_tells)
    assert found == {"lifespan-paired": "the application was told ['lifespan.startup']"}


def test_application_legal_catches_an_application_that_breaks_asgi():
    report = sim.explore("hello", server="reference", params={"app": f"{__name__}:answers_twice"})
    found = {d.invariant: d for d in report.discoveries}
    assert found["application-legal"].message.startswith("the application breaks ASGI: http.response.start")
    _, run = sim.replay(found["application-legal"].schedule)
    assert [e.side for e in run.trace.of(AsgiIllegal)] == ["application"] * 2


async def answers_twice(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    await send(head)
    try:
        await send(head)
    except RuntimeError:
        await send({"type": "http.response.body"})


def test_every_invariant_of_the_pongs_story_has_been_made_to_fail_here():
    assert {i.name for i in sim.registry.find_scenario("unsolicited_pong").invariants} == PONG_STORY
