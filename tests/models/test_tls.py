"""TLS over simulated sockets: OpenSSL's own, on both sides of real servers."""

from __future__ import annotations

import ssl

import pytest

import sim
from models.http1 import HttpClient
from models.tls import client_context
from models.uvicorn import COMBINATIONS
from models.websocket import WebSocketClient, text
from sim.world.events import Logged, TcpSend

from .worlds import alive, echo, play, websocket

REAL = (*COMBINATIONS, "hypercorn")
pytestmark = [
    pytest.mark.usefixtures("paper", "worlds"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
]


def visit(paper):
    async def client(host, server):
        context = client_context(trust=paper.authority)
        http = HttpClient(host, tls=context)
        await http.connect(server.address)
        bodies = [(await http.request(path)).body for path in ("/1", "/2")]
        http.close()
        websocket_client = WebSocketClient(host, tls=context)
        await websocket_client.connect(server.address)
        websocket_client.send(text("hi"))
        bodies.append((await websocket_client.receive()).data)
        await websocket_client.close(1000)
        return bodies, websocket_client.close_code, websocket_client.connection.version

    return client


@pytest.mark.parametrize("server", REAL)
def test_requests_and_a_conversation(server, paper):
    played = play(server, websocket(echo), visit(paper), certificate=paper.certificate)
    assert played.result == ([b"alive /1", b"alive /2", "hi"], 1000, "TLSv1.3")


@pytest.mark.parametrize("server", ["uvicorn[h11,wsproto]", "hypercorn"])
def test_one_schedule_is_one_trace_although_the_bytes_are_random(server, paper):
    traces = {
        play(server, websocket(echo), visit(paper), certificate=paper.certificate).trace.to_jsonl() for _ in range(5)
    }
    assert len(traces) == 1


def test_what_is_encrypted_is_recorded_by_its_length(paper):
    played = play("hypercorn", alive, visit_once(paper), certificate=paper.certificate)
    segments = [e for e in played.of(TcpSend) if e.segment not in ("SYN", "FIN", "RST")]
    assert any("bytes" in e.segment for e in segments)
    assert {e.data for e in segments} == {b""}


def visit_once(paper, **options):
    async def client(host, server):
        http = HttpClient(host, tls=client_context(**{"trust": paper.authority, **options}))
        await http.connect(server.address)
        answer = await http.request("/")
        http.close()
        return answer.status, http.connection.protocol

    return client


def test_a_server_that_is_not_trusted(paper, tmp_path):
    import trustme

    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)

    async def client(host, server):
        with pytest.raises(ssl.SSLCertVerificationError):
            await HttpClient(host, tls=client_context(trust=str(other))).connect(server.address)
        return "refused"

    assert play("uvicorn[h11,wsproto]", alive, client, certificate=paper.certificate).result == "refused"


def test_a_client_that_trusts_anybody(paper):
    assert play("hypercorn", alive, visit_once(paper, trust=None), certificate=paper.certificate).result == (200, None)


def test_the_application_layer_protocol_is_negotiated(paper):
    offering = visit_once(paper, protocols=["http/1.1"])
    assert play("hypercorn", alive, offering, certificate=paper.certificate).result == (200, "http/1.1")


def test_a_client_without_tls_gets_no_answer(paper):
    async def client(host, server):
        http = HttpClient(host)
        await http.connect(server.address)
        return await http.request("/", within=70.0)

    assert play("hypercorn", alive, client, certificate=paper.certificate).result is None


def test_a_connection_that_ends_in_the_middle_of_the_handshake(paper):
    async def client(host, server):
        connection = await host.connect(server.address)
        connection.send(b"\x16\x03\x01\x00\x05\x01\x00", "half a ClientHello")
        connection.close()
        http = HttpClient(host, tls=client_context(trust=paper.authority))
        await http.connect(server.address)
        return (await http.request("/")).status

    played = play("uvicorn[h11,wsproto]", alive, client, certificate=paper.certificate)
    assert played.result == 200
    assert played.of(Logged) == []


def test_hello_is_explored_over_tls(paper):
    report = sim.explore("hello", server="uvicorn[h11,wsproto]", params={"certificate": paper.in_one})
    report.check()
    assert report.complete
    assert report.runs > 1


def test_a_server_that_does_not_speak_tls_is_told(paper):
    with pytest.raises(sim.UsageError, match=r"granian==1\.4\.1 does not speak tls here"):
        sim.explore("hello", server="granian==1.4.1", params={"certificate": paper.in_one})
