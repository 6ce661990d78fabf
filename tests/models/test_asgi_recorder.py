"""The recorder sees everything between a server and an application, and neither of them notices it."""

from __future__ import annotations

import asyncio
import gc
import inspect
import warnings

import pytest

from models.asgi import Recorder
from models.asgi.events import AsgiReceived, AsgiSend, brief
from sim.world.clock import Clock
from sim.world.trace import Trace

CONNECT = {"type": "websocket.connect"}
TEXT = {"type": "websocket.receive", "text": "hi"}
ACCEPT = {"type": "websocket.accept"}


class Book:
    """Where a recorder writes, in a test without a world."""

    def __init__(self):
        self.trace = Trace(Clock())

    def __iter__(self):
        return (
            f"{e.kind.partition('.')[2]} {' '.join(str(v) for v in e.fields().values())}".strip() for e in self.trace
        )

    @property
    def lines(self):
        return list(self)

    def of(self, actor):
        return [event.kind.partition(".")[2] for event in self.trace if event.actor == actor]


def run(app, server, kind="websocket"):
    """Have `server(app, scope)`, a coroutine, call the recorded application. Returns the book."""
    book = Book()
    recorder = Recorder(app, book.trace.record)

    async def main():
        scope = {"type": kind, "path": "/"}
        return await server(recorder, scope)

    asyncio.run(main())
    return book


def queueing(*messages):
    """A server as most are: `receive` is a coroutine over a queue."""

    async def server(app, scope):
        inbound = list(messages)

        async def receive():
            if not inbound:
                await asyncio.Event().wait()
            return inbound.pop(0)

        async def send(message):
            await asyncio.sleep(0)

        await app(scope, receive, send)

    return server


def test_a_conversation_is_written_down_in_order():
    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        await receive()

    book = run(app, queueing(CONNECT, TEXT))
    assert book.lines == [
        "called websocket /",
        "receive",
        "received {'type': 'websocket.connect'}",
        "send {'type': 'websocket.accept'}",
        "sent websocket.accept",
        "receive",
        "received {'type': 'websocket.receive', 'text': 'hi'}",
        "returned",
    ]


def test_calling_is_doing():
    """The server's `receive` and `send` are called when the application calls, not when it awaits."""
    called = []

    async def server(app, scope):
        def receive():
            called.append("receive")
            future = asyncio.get_running_loop().create_future()
            future.set_result(CONNECT)
            return future

        def send(message):
            called.append("send")
            return asyncio.sleep(0)

        await app(scope, receive, send)

    async def app(scope, receive, send):
        message = receive()
        assert called == ["receive"]
        sending = send(ACCEPT)
        assert called == ["receive", "send"]
        assert await message == CONNECT
        await sending

    run(app, server)


def test_what_is_recorded_is_what_was_said_then():
    """A message that somebody changes later stays in the book as it was."""

    async def app(scope, receive, send):
        message = await receive()
        message["type"] = "changed"
        reply = dict(ACCEPT)
        await send(reply)
        reply["type"] = "changed"

    book = run(app, queueing(dict(CONNECT)))
    assert [e.message["type"] for e in book.trace.of(AsgiReceived, AsgiSend)] == [
        "websocket.connect",
        "websocket.accept",
    ]


@pytest.mark.parametrize("eager", [True, False])
def test_failures_of_receive_and_send_are_recorded_and_passed_on(eager):
    async def server(app, scope):
        def fail(*_):
            raise RuntimeError("flow")

        async def fail_later(*_):
            raise RuntimeError("flow")

        await app(scope, fail if eager else fail_later, fail if eager else fail_later)

    async def app(scope, receive, send):
        with pytest.raises(RuntimeError, match="flow"):
            await receive()
        with pytest.raises(RuntimeError, match="flow"):
            await send(ACCEPT)

    book = run(app, server)
    assert "receive_failed RuntimeError flow" in book.lines
    assert "send_failed RuntimeError flow" in book.lines
    assert book.lines[-1] == "returned"


def test_the_applications_death_is_recorded_and_passed_on():
    async def server(app, scope):
        with pytest.raises(ValueError, match="bang"):
            await app(scope, None, None)

    async def app(scope, receive, send):
        raise ValueError("bang")

    assert run(app, server).lines[-1] == "raised ValueError bang"


def test_a_cancelled_application_is_not_dead():
    async def server(app, scope):
        task = asyncio.ensure_future(queueing()(app, scope))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def app(scope, receive, send):
        await receive()

    assert run(app, server).of("websocket 1") == ["called", "receive", "receive_cancelled", "cancelled"]


def test_a_cancelled_receive_is_recorded_and_the_next_one_works():
    async def app(scope, receive, send):
        await receive()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(receive(), 0.001)
        task = asyncio.ensure_future(receive())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    book = run(app, queueing(CONNECT))
    assert book.of("websocket 1") == [
        "called",
        "receive",
        "received",
        *["receive", "receive_cancelled"] * 2,
        "returned",
    ]


@pytest.mark.parametrize("kind", ["coroutine", "future", "task"])
def test_a_receive_that_is_cancelled_before_it_began_is_cancelled_in_the_server(kind):
    made = []

    async def server(app, scope):
        async def wait():
            await asyncio.Event().wait()

        def receive():
            if kind == "future":
                made.append(asyncio.get_running_loop().create_future())
            else:
                made.append(wait() if kind == "coroutine" else asyncio.ensure_future(wait()))
            return made[-1]

        await app(scope, receive, None)

    async def app(scope, receive, send):
        task = asyncio.ensure_future(receive())
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)
        assert task.cancelled()

    book = run(app, server)
    if kind == "coroutine":
        assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED
    else:
        assert made[0].cancelled()
    assert "receive_cancelled" in book.lines


def test_two_tasks_receive_and_send_at_once():
    """One waits in receive() while the other sends: neither disturbs the other, in the book or in what is shown."""
    shown = []

    class World:
        def probe(self, name, describe):
            self.describe = describe

        def may_cancel(self, name, task):
            assert (name, task) == ("websocket 1", asyncio.current_task())

    book, world = Book(), World()
    world.trace = book.trace

    async def app(scope, receive, send):
        await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        shown.append(world.describe())
        sending = asyncio.ensure_future(send(ACCEPT))
        await asyncio.sleep(0)
        shown.append(world.describe())
        await sending
        shown.append(world.describe())
        waiting.cancel()
        await asyncio.wait([waiting])
        shown.append(world.describe())

    async def main():
        await queueing(CONNECT)(Recorder(app, book.trace.record, world), {"type": "websocket"})

    asyncio.run(main())
    assert shown == [
        "connecting, in receive()",
        "open, in receive() and in send()",
        "open, in receive()",
        "open, working",
    ]
    assert world.describe() == "open, returned"
    assert book.of("websocket 1")[3:] == ["receive", "send", "sent", "receive_cancelled", "returned"]


def test_calls_are_numbered_by_kind():
    async def app(scope, receive, send):
        pass

    async def server(app, scope):
        for kind in ("lifespan", "http", "websocket", "http"):
            await app({"type": kind, "path": "/"}, None, None)

    book = run(app, server)
    assert [e.actor for e in book.trace][::2] == ["lifespan", "http 1", "websocket 1", "http 2"]


def test_what_breaks_asgi_is_recorded_with_the_side():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.send", "text": "too early"})
        await send(ACCEPT)
        await receive()

    book = run(app, queueing(CONNECT, CONNECT))
    offences = [line for line in book.lines if line.startswith("illegal")]
    assert offences == [
        "illegal application connecting websocket.send(text='too early')",
        "illegal server open websocket.connect",
    ]


class Future:
    """Something future-like that does not mind being dropped, such as a native server's."""

    _asyncio_future_blocking = True

    def __await__(self):
        yield self


def test_what_is_never_awaited_does_not_complain_if_the_servers_own_does_not():
    async def server(app, scope):
        await app(scope, Future, lambda message: Future())

    async def app(scope, receive, send):
        receive()
        send(ACCEPT)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        book = run(app, server)
        gc.collect()
    assert book.of("websocket 1") == ["called", "receive", "send", "returned"]


def test_what_is_never_awaited_complains_once_if_the_servers_own_does():
    async def app(scope, receive, send):
        receive()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(app, queueing(CONNECT))
        gc.collect()
    assert [str(w.message) for w in caught] == [
        "coroutine 'queueing.<locals>.server.<locals>.receive' was never awaited"
    ]


def test_what_is_closed_unawaited_closes_the_servers_own():
    async def app(scope, receive, send):
        receive().close()
        half = receive()
        await half
        half.close()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(app, queueing(CONNECT))
        gc.collect()


def test_an_answer_can_be_wrapped_in_a_task_or_gathered_and_is_awaited_once():
    async def app(scope, receive, send):
        first = asyncio.get_running_loop().create_task(receive())
        assert await first == CONNECT
        _, message = await asyncio.gather(send(ACCEPT), receive())
        assert message == TEXT
        again = send(ACCEPT)
        await again
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await again

    run(app, queueing(CONNECT, TEXT))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"type": "websocket.connect"}, "websocket.connect"),
        ({"type": "websocket.receive", "text": "", "bytes": None}, "websocket.receive(text='')"),
        (
            {"type": "http.request", "body": b"x" * 100, "more_body": True},
            "http.request(body=b'" + "x" * 35 + "..., more_body=True)",
        ),
        ({"type": "http.request", "body": b"", "more_body": False}, "http.request"),
        ({"type": "websocket.disconnect", "code": 1000, "reason": ""}, "websocket.disconnect(code=1000)"),
        ({}, "?"),
    ],
)
def test_a_message_in_a_few_words(message, words):
    assert brief(message) == words
