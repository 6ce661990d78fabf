"""Granian's model, row by row of what was measured on the real one: HTTP, lifespan, and the versions."""

from __future__ import annotations

import asyncio
import re
import signal

import pytest

from models.asgi import AppReturned, AsgiReceived
from models.granian.behaviour import CHANGES, FIRST, VERSIONS, behaviour_of
from models.granian.native import Aborted
from models.http1 import HttpClient, HttpCutOff, HttpResponse
from sim import StartupError, UsageError
from sim.registry import find_subject

from .worlds import alive, answer, attempt, body_of, get, play, raw, soon

GRANIAN = "granian==1.4.1"
FLOW, UNSUPPORTED = "ASGI flow error", "Unsupported ASGI message"
START = {"type": "http.response.start", "status": 200}
DISCONNECT = {"type": "http.disconnect"}
pytestmark = pytest.mark.usefixtures("worlds")


def piece(body, more=True):
    return {"type": "http.response.body", "body": body, "more_body": more}


def asked(body=b"", more=True):
    return {"type": "http.request", "body": body, "more_body": more}


def http(conversation):
    """An application for one request; lifespan is answered."""

    async def app(scope, receive, send):
        if scope["type"] == "http" and scope["path"] != "/alive":
            await conversation(receive, send)
        else:
            await alive(scope, receive, send)

    return app


def answers(played):
    """The status of each response that a raw client read, the first one's body and what follows, and the end."""
    return answers_of(played.result)


def answers_of(result):
    text, end = result
    return re.findall(rb"HTTP/1\.[01] (\d+)[^\r]*\r\n", text), text.partition(b"\r\n\r\n")[2], end


# Requests.


def test_a_body_comes_in_pieces_and_one_empty_event_more():
    async def app(receive, send):
        await body_of(receive)
        await answer(send)

    played = play(GRANIAN, http(app), raw(get("/", "content-length: 6", method="POST"), 0.1, b"abc", 0.1, b"def"))
    assert played.received("http 1") == [asked(b"abc"), asked(b"def"), asked(b"", more=False)]


def test_no_body_is_one_empty_event():
    async def app(receive, send):
        await body_of(receive)
        await answer(send)

    assert play(GRANIAN, http(app), raw(get())).received("http 1") == [asked(b"", more=False)]


def test_a_chunked_body():
    async def app(receive, send):
        await answer(send, await body_of(receive))

    chunks = (b"3\r\nabc\r\n", 0.1, b"2\r\nde\r\n0\r\n\r\n")
    played = play(GRANIAN, http(app), raw(get("/", "transfer-encoding: chunked", method="POST"), *chunks))
    assert played.received("http 1") == [asked(b"abc"), asked(b"de"), asked(b"", more=False)]
    assert answers(played) == ([b"200"], b"abcde", "open")


@pytest.mark.parametrize(
    ("lines", "sends"),
    [(["content-length: 9"], [b"abc", "fin"]), (["transfer-encoding: chunked"], [b"3\r\nabc\r\nzz\r\n"])],
)
def test_a_body_that_is_cut_short_is_a_disconnect_and_the_next_receive_repeats_it(lines, sends):
    async def app(receive, send):
        for _ in range(3):
            await receive()
        await answer(send, b"too late to matter")

    played = play(GRANIAN, http(app), raw(get("/", *lines, method="POST"), 0.1, *sends))
    assert played.received("http 1") == [asked(b"abc"), DISCONNECT, DISCONNECT]
    assert answers(played)[0] == [b"200"]


def test_behind_the_body_receive_waits_for_the_end_of_the_response_and_does_not_see_the_client_leave():
    done = []

    async def app(receive, send):
        await body_of(receive)
        waiting = await soon(receive(), 1.0)
        done.append(waiting.done())
        await answer(send)
        await asyncio.wait([waiting], timeout=1.0)
        done.append(waiting.result())

    play(GRANIAN, http(app), raw(get(), 0.1, "fin"))
    assert done == [False, DISCONNECT]


def test_one_waiting_receive_is_told_of_the_end_and_a_second_is_not():
    async def app(receive, send):
        await body_of(receive)
        waiting = [asyncio.ensure_future(receive()) for _ in range(2)]
        await answer(send)
        done, pending = await asyncio.wait(waiting, timeout=1.0)
        assert (len(done), len(pending)) == (1, 1)
        pending.pop().cancel()

    assert len(play(GRANIAN, http(app), raw(get(), within=3.0)).of(AppReturned)) == 1


def test_a_client_that_has_left_gets_no_answer_even_if_it_could_read_one():
    async def app(receive, send):
        await asyncio.sleep(0.5)
        await answer(send, b"x")

    assert play(GRANIAN, http(app), raw(get(), 0.1, "fin")).result == (b"", "eof")


def test_pipelined_requests_are_answered_in_order_but_not_for_a_client_that_has_left():
    async def app(receive, send):
        await asyncio.sleep(0.5)
        await answer(send, b"first")

    played = play(GRANIAN, http(app), raw(get() + get("/alive"), within=2.0))
    assert played.result[0].count(b"HTTP/1.1 200") == 2
    assert played.result[0].index(b"first") < played.result[0].index(b"alive")
    assert answers(play(GRANIAN, http(app), raw(get() + get("/alive"), 0.1, "fin", within=2.0))) == (
        [b"200"],
        b"first",
        "eof",
    )


def test_expect_100_is_answered_when_the_application_asks_for_the_body():
    async def app(receive, send):
        await asyncio.sleep(0.5)
        await answer(send, await body_of(receive))

    request = get("/", "expect: 100-continue", "content-length: 3", method="POST")
    played = play(GRANIAN, http(app), raw(request, 0.3, b"abc"))
    assert played.result[0].startswith(b"HTTP/1.1 100 ")
    assert played.result[0].endswith(b"abc")
    assert answers(play(GRANIAN, alive, raw(request))) == ([b"200"], b"alive /", "eof")


def test_a_bad_request_is_a_400_without_a_call():
    played = play(GRANIAN, alive, raw(b"garbage\r\n\r\n"))
    assert answers(played)[0] == [b"400"]
    assert answers(played)[2] == "eof"
    assert played.received("http 1") == []


def test_an_answer_before_the_whole_body_costs_the_connection_unless_the_rest_is_here():
    assert answers(play(GRANIAN, alive, raw(get("/", "content-length: 6", method="POST") + b"abc")))[2] == "eof"
    assert answers(play(GRANIAN, alive, raw(get("/", "content-length: 3", method="POST") + b"abc")))[2] == "open"


def test_unread_data_makes_the_close_a_reset():
    async def app(receive, send):
        await asyncio.sleep(0.5)
        await answer(send)

    played = play(GRANIAN, http(app), raw(get("/", "content-length: 300000", method="POST"), *[b"x" * 60_000] * 3))
    assert played.result[1] == "reset"


def test_the_scope_has_granians_ideas_of_a_scope():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await alive(scope, receive, send)

    request = b"GET /%20a?q=%201 HTTP/1.0\r\nX-A: 1\r\nb: 2\r\nx-a: 3\r\n\r\n"
    played = play(GRANIAN, app, raw(request))
    scope = scopes[1]
    assert played.result[1] == "eof"
    assert scope["server"] == ("127.0.0.1", "8000")
    assert scope["client"][1].isdigit()
    assert (scope["http_version"], scope["path"], scope["raw_path"], scope["query_string"]) == (
        "1",
        "/ a",
        b"/ a",
        b"q=%201",
    )
    assert scope["headers"] == [(b"host", b""), (b"x-a", b"1"), (b"x-a", b"3"), (b"b", b"2")]
    assert scope["state"] == {}


# Responses.


def test_the_head_is_kept_back_until_the_body_begins():
    async def app(receive, send):
        await send(START)
        await asyncio.sleep(2.0)
        await send(piece(b"now", more=False))

    assert play(GRANIAN, http(app), raw(get(), within=1.0)).result == (b"", "open")
    assert answers(play(GRANIAN, http(app), raw(get(), within=3.0))) == ([b"200"], b"now", "open")


def test_a_streamed_response():
    async def app(receive, send):
        await send(START)
        for part in (b"one ", b"two ", b"three"):
            await send(piece(part))
            await asyncio.sleep(0.1)
        await send(piece(b"", more=False))

    played = play(GRANIAN, http(app), raw(get()))
    assert b"transfer-encoding: chunked" in played.result[0].lower()
    assert answers(played) == ([b"200"], b"4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n", "open")
    assert answers(play(GRANIAN, http(app), raw(get(version="1.0")))) == ([b"200"], b"one two three", "eof")


@pytest.mark.parametrize(("last", "dies"), [(b"end", False), (None, False), (None, True)])
def test_a_stream_ends_with_the_last_piece_or_with_the_application_and_looks_whole_either_way(last, dies):
    async def app(receive, send):
        await send(START)
        await send(piece(b"begin"))
        if last is not None:
            await send(piece(last, more=False))
        elif dies:
            raise ValueError("in the middle")

    assert answers(play(GRANIAN, http(app), raw(get())))[1].endswith(b"0\r\n\r\n")


def test_a_stream_to_a_client_that_has_left_warns_and_does_not_raise():
    async def app(receive, send):
        await body_of(receive)
        await send(START)
        for _ in range(3):
            await send(piece(b"x"))
            await asyncio.sleep(0.2)
        await receive()

    played = play(GRANIAN, http(app), raw(get(), 0.1, "fin"))
    assert played.logged() == ["WARNING ASGI transport error: SendError { .. }"] * 2
    assert played.failed_sends() == []
    assert played.received("http 1")[-1] == DISCONNECT


def test_a_stream_waits_for_a_client_that_does_not_read():
    sent = []

    async def app(receive, send):
        await send(START)
        for _ in range(200):
            await send(piece(b"x" * 60_000))
            sent.append(1)

    async def client(host, server):
        connection = await host.connect(server.address)
        connection.send(get())
        await host.sleep(5.0)
        stalled = len(sent)
        assert 0 < stalled < 200
        await host.sleep(5.0)
        assert len(sent) == stalled
        while await connection.receive(within=1.0):
            pass

    play(GRANIAN, http(app), client)
    assert len(sent) == 200


def test_head_and_204_have_no_body():
    async def app(receive, send):
        await answer(send, b"body")

    async def empty(receive, send):
        await send({**START, "status": 204})
        await send(piece(b"dropped", more=False))

    played = play(GRANIAN, http(app), raw(get(method="HEAD"), 0.1, get("/alive")))
    assert played.result[0].count(b"HTTP/1.1 200") == 2
    assert b"content-length: 4\r\n" in played.result[0]
    assert b"\r\n\r\nbody" not in played.result[0]
    assert answers(play(GRANIAN, http(empty), raw(get()))) == ([b"204"], b"", "open")


def test_a_streamed_head_drops_the_pieces_with_a_warning():
    async def app(receive, send):
        await send(START)
        await asyncio.sleep(0)
        await send(piece(b"one"))
        await send(piece(b"two"))
        await send(piece(b"", more=False))

    played = play(GRANIAN, http(app), raw(get(method="HEAD")))
    assert answers(played)[1:] == (b"", "open")
    assert played.logged()[-1] == "WARNING ASGI transport error: SendError { .. }"


@pytest.mark.parametrize("dies", [False, True])
def test_an_application_that_ends_without_an_answer_is_a_500(dies):
    async def app(receive, send):
        await send(START)
        if dies:
            raise ValueError("no")

    played = play(GRANIAN, http(app), raw(get()))
    assert answers(played) == ([b"500"], b"Internal server error", "open")
    assert played.logged() == ["ERROR Application callable raised an exception"] * dies


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([piece(b"")], ("http.response.body", FLOW)),
        ([START, START], ("http.response.start", FLOW)),
        ([START, piece(b""), piece(b"", more=False), piece(b"")], ("http.response.body", FLOW)),
        ([{"type": "http.response.trailers"}], ("http.response.trailers", UNSUPPORTED)),
        ([{"type": "websocket.accept"}], ("websocket.accept", UNSUPPORTED)),
    ],
)
def test_misuse_of_send_raises_at_once(messages, error):
    async def app(receive, send):
        *legal, bad = messages
        for message in legal:
            await send(message)
        with pytest.raises(RuntimeError):
            send(bad)

    assert play(GRANIAN, http(app), raw(get())).failed_sends() == [error]


def test_a_body_behind_the_whole_response_is_the_servers_death():
    """Panic is abort: nothing after it happens in that process, what was open is closed, nobody listens."""
    after = []

    async def app(receive, send):
        await answer(send, b"ok")
        await send(piece(b"again"))
        after.append("survived")

    async def other(host, server):
        connection = await host.connect(server.address)
        gone = await connection.receive(within=2.0)
        with pytest.raises(ConnectionRefusedError):
            await host.connect(server.address)
        return gone

    played = play(GRANIAN, http(app), raw(get()), other)
    assert answers_of(played.results[0]) == ([b"200"], b"ok", "eof")
    assert played.results[1] == b""
    assert after == []
    assert played.server.process.exited
    assert played.server.process.killed_by == signal.SIGABRT
    assert len(played.of(Aborted)) == 1
    assert played.of(AppReturned) == []


def test_a_path_that_is_no_utf_8_is_the_servers_death():
    played = play(GRANIAN, alive, raw(get("/%ff")))
    assert played.result == (b"", "eof")
    assert played.server.process.exited
    assert played.received("http 1") == []


# The connection.


def test_keep_alive_and_the_end_of_it():
    async def client(host, server):
        http = HttpClient(host)
        await http.connect(server.address)
        first = await http.request("/1", method="POST", body=b"abc")
        last = await http.request("/2", headers=[("connection", "close")])
        assert await http.request("/3") is None
        return first.body, last.body

    played = play(GRANIAN, alive, client)
    assert played.result == (b"alive /1", b"alive /2")
    assert len(played.of(HttpResponse)) == 2
    assert len(played.of(HttpCutOff)) == 1


def test_the_server_names_itself_and_the_date():
    async def client(host, server):
        http = HttpClient(host)
        await http.connect(server.address)
        return await http.request("/")

    response = play(GRANIAN, alive, client).result
    assert response.header(b"server") == b"granian"
    assert response.header(b"date").endswith(b"GMT")
    assert response.header(b"nothing") is None


# Lifespan.


def lifespan(*said, request=None):
    """An application that answers lifespan with these messages' types, or dies of an exception among them."""

    async def app(scope, receive, send):
        if scope["type"] != "lifespan":
            await (request or alive)(scope, receive, send)
            return
        await receive()
        for answer_ in said:
            if isinstance(answer_, Exception):
                raise answer_
            await send({"type": f"lifespan.{answer_}", "message": "because"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return app


def test_lifespan_frames_the_service_and_its_state_is_copied():
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            scope["state"]["shared"] = []
        else:
            scope["state"]["shared"].append(1)
            scope["state"]["own"] = 1
            seen.append(dict(scope["state"]))
        await alive(scope, receive, send)

    async def client(host, server):
        await raw(get() + get())(host, server)
        server.process.kill(15)

    played = play(GRANIAN, app, client)
    assert seen == [{"shared": [1, 1], "own": 1}] * 2
    assert [e.message["type"] for e in played.of(AsgiReceived) if e.actor == "lifespan"] == [
        "lifespan.startup",
        "lifespan.shutdown",
    ]
    assert played.server.process.exited


def test_a_failed_startup_ends_the_server_with_its_reason():
    with pytest.raises(StartupError, match="because"):
        play(GRANIAN, lifespan("startup.failed"), raw(get()))


def test_an_exception_on_lifespan_means_no_lifespan():
    async def client(host, server):
        first = await raw(get())(host, server)
        server.process.kill(15)
        return first

    played = play(GRANIAN, lifespan(ValueError("no lifespan here")), client)
    assert b"alive" in played.result[0]
    assert "continuing without Lifespan support" in played.logged()[0]
    assert [e["type"] for e in played.received("lifespan")] == ["lifespan.startup"]


def test_a_second_answer_is_refused():
    played = play(GRANIAN, lifespan("startup.complete", "startup.complete"), raw(get()))
    assert b"alive" in played.result[0]
    assert played.failed_sends()[0][0] == "lifespan.startup.complete"


# Versions.


@pytest.mark.parametrize(
    ("requirement", "version"),
    [
        ("granian", "1.4.4"),
        ("granian==1.4.1", "1.4.1"),
        ("granian<1.4.2", "1.4.1"),
        ("granian>=1.4.2", "1.4.4"),
        ("granian~=1.3.2", "1.3.2"),
        ("Granian == 1.4.3", "1.4.3"),
    ],
)
def test_a_requirement_picks_the_newest_modelled_version_that_it_allows(requirement, version):
    subject = find_subject(requirement)
    assert subject.requirement == f"granian=={version}"
    assert subject.kind == "model"


@pytest.mark.parametrize("requirement", ["granian==2.0.0", "granian<1", "granian==1.4.5"])
def test_an_unmodelled_version_says_which_are_modelled(requirement):
    with pytest.raises(
        UsageError, match=r"modelled versions of granian are 1\.3\.2, 1\.4\.0, 1\.4\.1, .*1\.4\.4"
    ) as caught:
        find_subject(requirement)
    assert "--real" in str(caught.value)


def test_extras_are_refused():
    with pytest.raises(UsageError, match=r"granian has no combination with .*reload"):
        find_subject("granian[reload]==1.4.1")


def test_behaviour_is_rows_applied_in_order():
    assert behaviour_of("1.3.2") == behaviour_of("1.4.1") == FIRST
    assert FIRST.pong_is_an_error
    assert not behaviour_of("1.4.2").pong_is_an_error
    assert behaviour_of("1.4.4") == behaviour_of("1.4.2")
    assert [change.version for change in CHANGES] == sorted(change.version for change in CHANGES)
    assert all(change.reference and change.sets for change in CHANGES)
    assert len(VERSIONS) == len(set(VERSIONS))


def test_attempt_is_honest():
    """The tests' own helper lets other errors through."""

    async def fail():
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        asyncio.run(attempt(fail()))
