"""HTTP/2 on real hypercorn: with prior knowledge and by ALPN, streams side by side, WebSocket on a stream."""

from __future__ import annotations

import asyncio

import pytest
from h2.errors import ErrorCodes

import sim
from models.http1 import HttpCutOff
from models.http2 import ALPN, Http2Client, Http2GoAway, Http2Reset
from models.tls import client_context
from models.websocket import Refused, WebSocketClient, text

from .worlds import alive, answer, body_of, echo, play, websocket

pytestmark = pytest.mark.usefixtures("paper", "worlds")


async def connected(host, server, tls=None):
    client = Http2Client(host, tls=tls)
    await client.connect(server.address)
    return client


async def mirror(scope, receive, send):
    """Answers with the request's body; `/slow` takes a second."""
    if scope["type"] != "http":
        await alive(scope, receive, send)
        return
    body = await body_of(receive)
    if scope["path"] == "/slow":
        await asyncio.sleep(1.0)
    await answer(send, scope["path"].encode() + b" " + body)


async def side_by_side(host, server):
    client = await connected(host, server)
    slow, quick = client.begin("/slow"), client.begin("/quick")
    bodies = [(await client.response(stream)).body for stream in (quick, slow)]
    client.close()
    return bodies, host.now


def test_with_prior_knowledge_a_slow_stream_does_not_hold_up_the_other():
    played = play("hypercorn", mirror, side_by_side)
    assert played.result == ([b"/quick ", b"/slow "], pytest.approx(1.0))
    assert played.logged() == []


def test_by_alpn(paper):
    async def client(host, server):
        http2 = await connected(host, server, client_context(trust=paper.authority, protocols=[ALPN]))
        response = await http2.request("/x")
        http2.close()
        return response.body, response.header(b"server"), http2.connection.protocol

    played = play("hypercorn", mirror, client, certificate=paper.certificate)
    assert played.result == (b"/x ", b"hypercorn-h2", "h2")


def test_a_server_that_chooses_another_protocol_is_told(paper):
    async def client(host, server):
        context = client_context(trust=paper.authority, protocols=["http/1.1"])
        with pytest.raises(ConnectionError, match="chose 'http/1.1'"):
            await connected(host, server, context)
        return "told"

    assert play("hypercorn", mirror, client, certificate=paper.certificate).result == "told"


def test_a_body_larger_than_the_windows_goes_as_they_open():
    async def client(host, server):
        http2 = await connected(host, server)
        return (await http2.request("/", method="POST", body=b"x" * 300_000)).body

    assert play("hypercorn", mirror, client).result == b"/ " + b"x" * 300_000


def test_a_stream_that_the_client_resets_leaves_the_others_alone():
    async def client(host, server):
        http2 = await connected(host, server)
        slow = http2.begin("/slow")
        await host.sleep(0.5)
        http2.reset(slow, ErrorCodes.CANCEL)
        return (await http2.request("/after")).body, await http2.response(slow)

    played = play("hypercorn", mirror, client)
    assert played.result == (b"/after ", None)
    assert [(e.way, e.stream, e.code) for e in played.of(Http2Reset)] == [("sends", 1, "CANCEL")]
    assert [e.read for e in played.of(HttpCutOff)] == ["this side reset it"]


def test_a_response_can_be_waited_for_in_vain():
    async def client(host, server):
        http2 = await connected(host, server)
        return await http2.request("/slow", within=0.3), host.now

    assert play("hypercorn", mirror, client).result == (None, pytest.approx(0.3))


def test_shutdown_with_a_stream_open_finishes_it_and_says_goodbye():
    async def client(host, server):
        http2 = await connected(host, server)
        stream = http2.begin("/slow")
        await host.sleep(0.5)
        server.process.kill(15)
        body = (await http2.response(stream)).body
        while not server.process.exited:
            await host.sleep(0.5)
            assert host.now < 60.0
        await http2._read(1.0)
        return body

    played = play("hypercorn", mirror, client)
    assert played.result == b"/slow "
    assert played.received("lifespan")[-1] == {"type": "lifespan.shutdown"}
    assert all(e.code == "NO_ERROR" for e in played.of(Http2GoAway))


def test_what_is_no_http2_is_told():
    async def client(host, server):
        http2 = await connected(host, server)
        return await http2.request("/")

    async def nonsense(reader, writer):
        writer.write(b"\0\0\1" + bytes(6) + b"x")  # a DATA frame of one byte, on stream 0
        await reader.read()
        writer.close()

    class Nonsense:
        requirement, kind, versions = "nonsense", "real", {}  # noqa: RUF012

        def serve(self, world, application):
            from models.serving import ADDRESS, start

            async def main():
                server = await asyncio.start_server(nonsense, *ADDRESS)
                await server.serve_forever()

            return start(world, "nonsense", main)

    played = play(Nonsense(), alive, client)
    assert played.result is None
    assert played.of(HttpCutOff)[0].read.startswith("it is no HTTP/2")


# WebSocket on a stream.


@pytest.mark.parametrize("secured", [False, True])
def test_a_websocket_on_a_stream(secured, paper):
    async def client(host, server):
        context = client_context(trust=paper.authority, protocols=[ALPN]) if secured else None
        http2 = await connected(host, server, context)
        conversation = WebSocketClient(host)
        await conversation.connect_over(http2, "/chat")
        conversation.send(text("one"), text("two"))
        got = [(await conversation.receive()).data for _ in range(2)]
        beside = (await http2.request("/beside")).body
        await conversation.close(1000, within=1.0)
        return got, beside, conversation.close_code

    played = play("hypercorn", websocket(echo), client, **({"certificate": paper.certificate} if secured else {}))
    assert played.result == (["one", "two"], b"alive /beside", 1000)


def test_a_websocket_that_is_refused():
    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await alive(scope, receive, send)

    async def client(host, server):
        http2 = await connected(host, server)
        with pytest.raises(Refused) as refused:
            await WebSocketClient(host).connect_over(http2)
        return refused.value.status

    assert play("hypercorn", app, client).result == 403


# Exploration.


def test_hello_is_explored_over_http2():
    report = sim.explore("hello", server="hypercorn", params={"http": "2"})
    report.check()
    assert report.complete
    assert report.runs > 10


@pytest.mark.parametrize("server", ["uvicorn[h11,wsproto]", "reference"])
def test_a_server_that_does_not_speak_http2_is_told(server):
    with pytest.raises(sim.UsageError, match="does not speak h2 here"):
        sim.explore("hello", server=server, params={"http": "2"})


def test_one_schedule_is_one_trace():
    assert len({play("hypercorn", mirror, side_by_side).trace.to_jsonl() for _ in range(5)}) == 1
