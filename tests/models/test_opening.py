"""The opening handshake of the scripted WebSocket client, held against wsproto's own."""

from __future__ import annotations

import os
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import RemoteProtocolError

from models.opening import Opening

TOKENS = st.text("abcxyz0189-._", min_size=1, max_size=6)
HEADERS = st.lists(st.tuples(TOKENS.map(lambda t: b"x-" + t.encode()), TOKENS.map(str.encode)), max_size=3)
QUESTIONS = st.fixed_dictionaries(
    {
        "host": st.from_regex(r"[a-z][a-z0-9]{0,5}(\.[a-z0-9]{1,5}){0,2}:80", fullmatch=True),
        "target": TOKENS.map(lambda t: f"/{t}?{t}"),
        "headers": HEADERS,
        "subprotocols": st.lists(TOKENS, max_size=2, unique=True),
        "deflate": st.booleans(),
    }
)


def ours(host, target, headers, subprotocols, deflate):
    return Opening(host, target, headers, subprotocols, [PerMessageDeflate()] if deflate else [])


def theirs(host, target, headers, subprotocols, deflate):
    extensions = [PerMessageDeflate()] if deflate else []
    wire = WSConnection(ConnectionType.CLIENT)
    request = ws.Request(
        host=host, target=target, extra_headers=headers, subprotocols=subprotocols, extensions=extensions
    )
    return wire, wire.send(request)


def server_for(request):
    wire = WSConnection(ConnectionType.SERVER)
    wire.receive_data(request)
    return wire, next(wire.events())


@given(question=QUESTIONS, accept=st.booleans(), deflate=st.booleans(), rest=st.binary(max_size=8), data=st.data())
def test_it_says_and_understands_what_wsproto_does(question, accept, deflate, rest, data):
    key = data.draw(st.binary(min_size=16, max_size=16))
    with mock.patch.object(os, "urandom", lambda size: key[:size]):
        opening = ours(**question)
        peer, request = theirs(**question)
    assert opening.request == request

    server, event = server_for(request)
    chosen = data.draw(st.sampled_from([None, *event.subprotocols]))
    if accept:
        extensions = [PerMessageDeflate()] if deflate else []
        said = server.send(ws.AcceptConnection(subprotocol=chosen, extensions=extensions)) + rest
    else:
        said = server.send(ws.RejectConnection(status_code=403, headers=[(b"content-length", b"0")]))
    cut = data.draw(st.integers(0, len(said) - len(rest) - 1))

    assert opening.receive(said[:cut]) is None
    answer = opening.receive(said[cut:])
    peer.receive_data(said)
    expected = next(peer.events())
    if not accept:
        assert (answer.status, answer.rest) == (expected.status_code, b"")
        return
    assert (answer.status, answer.subprotocol, answer.rest) == (101, expected.subprotocol, rest)
    assert [e.name for e in answer.extensions] == [e.name for e in expected.extensions]


def test_two_handshakes_have_keys_of_their_own():
    requests = {Opening("a:80", "/").request for _ in range(3)}
    assert len(requests) == 3


def test_interim_responses_are_passed_over():
    opening = Opening("a:80", "/")
    server, _ = server_for(opening.request)
    assert opening.receive(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n") is None
    answer = opening.receive(server.send(ws.AcceptConnection()))
    assert answer.status == 101


@pytest.mark.parametrize(
    ("before", "behind", "complaint"),
    [
        (b"Connection: Upgrade", b"Connection: close", "Connection: Upgrade"),
        (b"Upgrade: websocket", b"Upgrade: h2c", "Upgrade: websocket"),
        (b"Upgrade: websocket\r\n", b"", "Upgrade: websocket"),
        (b"Sec-WebSocket-Accept: ", b"Sec-WebSocket-Accept: x", "accept token"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: b\r\n\r\n", "unrecognized subprotocol b"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: gzip\r\n\r\n", "unrecognized extension gzip"),
        (b"HTTP/1.1", b"WHAT/1.1", "Bad HTTP message"),
    ],
)
def test_an_answer_that_a_client_must_fail_on(before, behind, complaint):
    opening = Opening("a:80", "/", subprotocols=["a"])
    said = server_for(opening.request)[0].send(ws.AcceptConnection())
    assert before in said, said
    with pytest.raises(RemoteProtocolError, match=complaint):
        opening.receive(said.replace(before, behind, 1))
