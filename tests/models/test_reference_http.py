"""The reference server against the specifications: HTTP/1.1 and ASGI's http and lifespan."""

from __future__ import annotations

import asyncio
import re

import pytest

from models.asgi import AppReturned, AsgiIllegal, AsgiSent
from models.http1 import HttpClient
from models.reference.http import CLOSE_SECONDS, KEEP_ALIVE_SECONDS
from sim import StartupError, UsageError
from sim.registry import find_subject
from sim.world.kernel import SEND_BUFFER

from .worlds import QUICK, alive, answer, body_of, get, play, raw

START = {"type": "http.response.start", "status": 200}
DISCONNECT = {"type": "http.disconnect"}
pytestmark = pytest.mark.usefixtures("worlds")


def piece(body, more=True):
    return {"type": "http.response.body", "body": body, "more_body": more}


def http(conversation):
    """An application for one request; lifespan is answered, and `/alive`."""

    async def app(scope, receive, send):
        if scope["type"] == "http" and scope["path"] != "/alive":
            await conversation(receive, send)
        else:
            await alive(scope, receive, send)

    return app


def served(app, *sends, **options):
    """Play raw bytes; nobody breaks ASGI. Returns status lines, what follows the first head, the end, and the run."""
    played = play("reference", app, raw(*sends, **options))
    assert [e for e in played.of(AsgiIllegal) if e.side == "server"] == []
    text, end = played.result
    return [int(s) for s in re.findall(rb"HTTP/1\.1 (\d+)", text)], text.partition(b"\r\n\r\n")[2], end, played


# Requests.


def test_keep_alive_and_pipelining_in_order():
    statuses, text, end, _ = served(alive, get("/1"), 0.1, get("/2"), get("/3") + get("/4"))
    assert statuses == [200] * 4
    assert re.findall(rb"alive (/\d)", text) == [b"/1", b"/2", b"/3", b"/4"]
    assert end == "open"


def test_a_request_in_two_pieces_at_every_place():
    request = get("/x", "content-length: 3", method="POST", body=b"abc")

    async def app(receive, send):
        await answer(send, await body_of(receive))

    for place in range(1, len(request), 7):
        assert served(http(app), request[:place], 0.1, request[place:])[1].endswith(b"abc")


@pytest.mark.parametrize(
    "request_bytes",
    [
        get("/", "content-length: 6", method="POST", body=b"abcdef"),
        get("/", "transfer-encoding: chunked", method="POST", body=b"2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n"),
    ],
)
def test_a_body(request_bytes):
    async def app(receive, send):
        await answer(send, await body_of(receive))

    statuses, text, end, played = served(http(app), request_bytes + get("/alive"), within=2.0)
    assert statuses == [200, 200]
    assert text.startswith(b"abcdef")
    assert end == "open"
    more = [e["more_body"] for e in played.received("http 1")]
    assert more == [True] * (len(more) - 1) + [False]


def test_http_1_0_is_answered_and_closed():
    assert served(alive, get("/", version="1.0"))[:3] == ([200], b"alive /", "eof")


@pytest.mark.parametrize(
    "garbage", [b"garbage\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\na b: c\r\n\r\n"]
)
def test_a_bad_request_is_a_400_and_the_end(garbage):
    statuses, _, end, played = served(alive, garbage)
    assert (statuses, end) == ([400], "eof")
    assert played.received("http 1") == []


def test_a_body_that_is_garbage_is_a_disconnect_and_a_400():
    async def app(receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass

    request = get("/", "transfer-encoding: chunked", method="POST", body=b"3\r\nabc\r\nzz\r\n")
    statuses, _, end, played = served(http(app), request)
    assert (statuses, end) == ([400], "eof")
    assert [m["type"] for m in played.received("http 1")] == ["http.request", "http.disconnect"]


def test_a_body_that_is_cut_short_is_a_disconnect_behind_what_came():
    async def app(receive, send):
        with pytest.raises(ConnectionError):
            await body_of(receive)
        with pytest.raises(OSError, match="gone"):
            await answer(send)

    _, _, _, played = served(http(app), get("/", "content-length: 9", method="POST"), 0.1, b"abc", 0.1, "fin")
    assert [m.get("body") for m in played.received("http 1")] == [b"abc", None]


@pytest.mark.parametrize("leave", ["fin", "rst"])
def test_a_client_that_leaves_is_a_disconnect_and_send_raises_an_oserror(leave):
    async def app(receive, send):
        await body_of(receive)
        assert await receive() == DISCONNECT
        assert await receive() == DISCONNECT
        with pytest.raises(OSError, match="gone"):
            await send(START)

    _, _, _, played = served(http(app), get(), 0.2, leave)
    assert len(played.of(AppReturned)) >= 1
    assert played.logged() == []


def test_the_servers_own_error_may_leave_the_application_unlogged():
    async def app(receive, send):
        await body_of(receive)
        await receive()
        await answer(send)

    assert served(http(app), get(), 0.1, "fin")[3].logged() == []


def test_behind_the_response_receive_is_a_disconnect():
    async def app(receive, send):
        await body_of(receive)
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(1.0)
        assert not waiting.done()
        await answer(send)
        assert await waiting == DISCONNECT
        assert await receive() == DISCONNECT

    assert served(http(app), get(), within=2.0)[0] == [200]


def test_a_cancelled_receive_loses_nothing():
    async def app(receive, send):
        body = b""
        while len(body) < 6:
            try:
                body += (await asyncio.wait_for(receive(), 0.01))["body"]
            except asyncio.TimeoutError:
                continue
        await answer(send, body)

    assert served(http(app), get("/", "content-length: 6", method="POST"), 0.5, b"abc", 0.5, b"def")[1] == b"abcdef"


def test_expect_100_is_answered_when_the_body_is_asked_for_and_else_the_connection_ends():
    async def app(receive, send):
        await answer(send, await body_of(receive))

    request = get("/", "expect: 100-continue", "content-length: 3", method="POST")
    assert served(http(app), request, 0.1, b"abc")[0] == [100, 200]
    statuses, text, end, _ = served(alive, request)
    assert (statuses, text, end) == ([200], b"alive /", "eof")


def test_an_early_answer_lets_the_rest_of_the_body_pass():
    statuses, _, end, _ = served(
        alive, get("/", "content-length: 6", method="POST"), 0.1, b"abc", 0.1, b"def", get("/2")
    )
    assert (statuses, end) == ([200, 200], "open")


def test_a_body_that_nobody_asks_for_stays_with_the_client():
    """Backpressure: what the server takes ahead is bounded."""
    total = 8_000_000

    async def app(receive, send):
        await asyncio.sleep(10.0)
        body = await body_of(receive)
        await answer(send, str(len(body)).encode())

    async def client(host, server):
        connection = await host.connect(server.address)
        connection.send(get("/", f"content-length: {total}", method="POST"))
        left, stalled = total, 0
        while left:
            try:
                connection.send(b"x" * min(left, 60_000))
                left -= min(left, 60_000)
            except BlockingIOError:
                stalled += 1
                await host.sleep(1.0)
                assert stalled < 60
        answer_ = await connection.receive(within=5.0)
        return stalled, answer_

    stalled, text = play("reference", http(app), client).result
    assert stalled >= 5
    assert text.endswith(str(total).encode())


def test_the_scope():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await alive(scope, receive, send)

    request = b"POST /a%20b?q=%201 HTTP/1.1\r\nhost: here\r\nX-A: 1\r\nx-a: 2\r\ncontent-length: 0\r\n\r\n"
    assert served(app, request)[0] == [200]
    scope = scopes[1]
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert (scope["method"], scope["scheme"], scope["http_version"]) == ("POST", "http", "1.1")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"q=%201")
    assert scope["headers"] == [(b"host", b"here"), (b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"0")]
    assert tuple(scope["server"]) == ("127.0.0.1", 8000)
    assert scope["client"][0] == "127.0.0.1"


# Responses.


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_head_has_the_head_of_get_and_no_body(method):
    async def app(receive, send):
        await answer(send, b"body")

    async def client(host, server):
        connection = HttpClient(host)
        await connection.connect(server.address)
        first = await connection.request("/", method=method)
        second = await connection.request("/alive")
        return first, second.body

    first, second = play("reference", http(app), client).result
    assert first.header(b"content-length") == b"4"
    assert first.body == (b"body" if method == "GET" else b"")
    assert second == b"alive /alive"


@pytest.mark.parametrize("status", [204, 304])
def test_204_and_304_have_no_body(status):
    async def app(receive, send):
        await send({**START, "status": status})
        await send(piece(b"not sent", more=False))

    assert served(http(app), get())[:3] == ([status], b"", "open")


def test_a_streamed_response_is_chunked_or_ends_with_the_connection():
    async def app(receive, send):
        await send({**START, "headers": [(b"transfer-encoding", b"chunked")]})
        await send(piece(b"one"))
        await asyncio.sleep(0.1)
        await send(piece(b"two", more=False))

    assert served(http(app), get())[1:3] == (b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", "open")
    assert served(http(app), get(version="1.0"))[1:3] == (b"onetwo", "eof")


def test_the_head_is_kept_back_until_the_body_begins():
    async def app(receive, send):
        await send(START)
        await asyncio.sleep(2.0)
        raise ValueError("still in time for a 500")

    assert served(http(app), get(), within=1.0)[0] == []
    assert served(http(app), get(), within=3.0)[0] == [500]


@pytest.mark.parametrize("dies", [False, True])
def test_an_application_that_ends_without_an_answer_is_a_500(dies):
    async def app(receive, send):
        if dies:
            raise ValueError("bang")

    statuses, _, end, played = served(http(app), get())
    assert (statuses, end) == ([500], "eof")
    assert played.logged() == ["ERROR the application raised"] * dies


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_application_that_ends_in_the_middle_is_cut_off_visibly(version):
    async def app(receive, send):
        await send(START)
        await send(piece(b"half"))
        await asyncio.sleep(0.1)

    statuses, text, end, _ = served(http(app), get(version=version))
    assert (statuses, end) == ([200], "reset")
    assert not text.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("body", [b"too much", b"."])
def test_content_length_is_never_violated_on_a_connection_that_lives_on(body):
    async def app(receive, send):
        await send({**START, "headers": [(b"content-length", b"5")]})
        await send(piece(body, more=False))

    _, text, end, _ = served(http(app), get() + get("/alive"))
    assert len(text) <= 5
    assert end in ("eof", "reset")


@pytest.mark.parametrize(
    "messages",
    [
        [START, START],
        [START, piece(b"x"), START],
        [piece(b"body first")],
        [START, piece(b"", more=False), piece(b"")],
        [{"type": "http.response.nonsense"}],
        [{"type": "websocket.accept"}],
    ],
)
def test_what_is_out_of_order_raises_and_is_not_sent(messages):
    async def app(receive, send):
        for message in messages[:-1]:
            await send(message)
        with pytest.raises(RuntimeError, match="not expected now"):
            await send(messages[-1])
        if len(messages) == 2 and messages[0] == START:
            await send(piece(b"fine", more=False))

    assert len(served(http(app), get())[0]) == 1


@pytest.mark.parametrize("header", [(b"x", b"a\r\nset-cookie: b"), (b"bad name", b"x"), (b"x", b"\x00")])
def test_headers_that_http_forbids_do_not_reach_the_wire(header):
    async def app(receive, send):
        await send({**START, "headers": [header]})
        await send(piece(b"", more=False))

    statuses, text, _, _ = served(http(app), get())
    assert statuses == [500]
    assert b"set-cookie" not in text


def test_send_waits_for_a_client_that_does_not_read():
    async def app(receive, send):
        await send(START)
        for _ in range(100):
            await send(piece(b"x" * 60_000))
        await send(piece(b"", more=False))

    async def client(host, server):
        connection = await host.connect(server.address)
        connection.send(get())
        await host.sleep(5.0)
        before = len(list(host.world.trace.of(AsgiSent)))
        await host.sleep(5.0)
        assert len(list(host.world.trace.of(AsgiSent))) == before < 80
        while not (await connection.receive(within=1.0) or b"0\r\n\r\n").endswith(b"0\r\n\r\n"):
            pass

    assert len(play("reference", http(app), client).of(AsgiSent)) > 100


# The connection's end, and the server's.


def test_an_idle_connection_ends_after_a_while():
    async def client(host, server):
        connection = await host.connect(server.address)
        connection.send(get())
        while await connection.receive():
            pass
        return host.now

    assert play("reference", alive, client).result == pytest.approx(KEEP_ALIVE_SECONDS, abs=1.0)


def test_a_client_that_does_not_read_the_last_bytes_does_not_keep_the_server():
    async def app(receive, send):
        await answer(send, b"x" * (SEND_BUFFER + 10_000), headers=[(b"connection", b"close")])

    async def client(host, server):
        connection = await host.connect(server.address)
        connection.send(get())
        await host.sleep(1.0)
        began = host.now
        server.process.kill(15)
        while not server.process.exited:
            await host.sleep(0.5)
        return host.now - began

    assert play("reference", http(app), client).result <= CLOSE_SECONDS


def test_graceful_shutdown_finishes_what_runs_closes_what_idles_and_tells_lifespan_last():
    async def app(receive, send):
        await asyncio.sleep(3.0)
        await answer(send, b"finished")

    async def busy(host, server):
        return await raw(get(), within=5.0)(host, server)

    async def idle(host, server):
        return await raw(get("/alive"), within=5.0)(host, server), host.now

    async def killer(host, server):
        await host.sleep(1.0)
        server.process.kill(15)
        await host.sleep(1.0)
        with pytest.raises(ConnectionRefusedError):
            await host.connect(server.address)

    played = play("reference", http(app), busy, idle, killer, settings=QUICK)
    assert played.results[0][0].endswith(b"finished")
    assert played.results[0][1] == "eof"
    assert played.results[1][0][1] == "eof"
    assert played.results[1][1] == pytest.approx(1.0, abs=0.1)
    assert played.server.process.exited
    assert [e["type"] for e in played.received("lifespan")] == ["lifespan.startup", "lifespan.shutdown"]
    last = [e.kind for e in played.trace if e.actor in ("http 1", "lifespan")]
    assert last.index("app.returned") < len(last) - 3


def lifespan(*said, after=None):
    async def app(scope, receive, send):
        if scope["type"] != "lifespan":
            return await alive(scope, receive, send)
        message = await receive()
        for words in said:
            if isinstance(words, Exception):
                raise words
            await send({"type": f"lifespan.{words}", "message": "because"})
        if after is None:
            message = await receive()
        else:
            message = await receive()
            if isinstance(after, Exception):
                raise after
        assert message["type"] == "lifespan.shutdown"
        await send({"type": f"lifespan.{after or 'shutdown.complete'}", "message": "because"})

    return app


def stopped(app):
    """Serve a request, stop, and wait for the end."""

    async def client(host, server):
        answer_ = await raw(get())(host, server)
        server.process.kill(15)
        await host.sleep(2.0)
        return answer_, server.process.exited

    return play("reference", app, client)


def test_a_failed_startup_ends_the_server_with_its_reason():
    with pytest.raises(StartupError, match="startup failed: because"):
        play("reference", lifespan("startup.failed"), raw(get()))


@pytest.mark.parametrize("said", [[ValueError("unsupported")], []])
def test_an_application_without_lifespan_is_served_and_told_nothing_more(said):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            if said:
                raise said[0]
            return
        await alive(scope, receive, send)

    played = stopped(app)
    assert played.result == ((b"HTTP/1.1 200 \r\ncontent-length: 7\r\n\r\nalive /", "open"), True)
    assert played.received("lifespan") == []


@pytest.mark.parametrize("after", ["shutdown.failed", ValueError("at shutdown")])
def test_a_failed_shutdown_ends_the_server_all_the_same(after):
    played = stopped(lifespan("startup.complete", after=after))
    assert played.result[1]
    if after == "shutdown.failed":
        assert played.logged() == ["ERROR shutdown failed: because"]


def test_lifespan_messages_out_of_order_raise():
    played = play("reference", lifespan("startup.complete", "startup.complete"), raw(get()))
    assert played.result[0].endswith(b"alive /")
    assert played.failed_sends() == [("lifespan.startup.complete", "lifespan.startup.complete is not expected now")]


def test_the_state_is_copied_shallowly_for_each_request():
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            scope["state"]["shared"] = []
        else:
            scope["state"]["shared"].append(scope["path"])
            scope["state"]["own"] = scope["path"]
            seen.append(scope["state"])
        await alive(scope, receive, send)

    served(app, get("/1") + get("/2"))
    assert [s["own"] for s in seen] == ["/1", "/2"]
    assert seen[0]["shared"] is seen[1]["shared"]


def test_it_has_no_versions_and_no_extras():
    assert find_subject("reference").requirement == "reference"
    with pytest.raises(UsageError, match="no versions"):
        find_subject("reference==1.0")
    with pytest.raises(UsageError, match="takes no extras"):
        find_subject("reference[h11]")
