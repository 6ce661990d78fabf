"""The interesting places to cut a segment."""

from __future__ import annotations

import pytest
import wsproto
from hypothesis import given
from hypothesis import strategies as st
from wsproto import events as ws
from wsproto.connection import Connection

import sim
from models.cuts import interesting


def cut(data: bytes) -> list[tuple[bytes, bytes]]:
    return [(data[:place], data[place:]) for place in interesting(data)]


def frames(*messages: ws.Event) -> bytes:
    wire = Connection(wsproto.ConnectionType.CLIENT)
    return b"".join(wire.send(message) for message in messages)


def test_a_request_is_cut_in_its_line_at_each_line_and_in_its_body() -> None:
    parts = cut(b"POST /users/42 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody")
    firsts = [first for first, _ in parts]
    assert b"POST" in firsts
    assert b"POST /use" in firsts
    assert any(first.endswith(b"\r") and rest.startswith(b"\nhost") for first, rest in parts)
    assert any(rest.startswith(b"host") for _, rest in parts)
    assert any(first.endswith(b"\r\n\r") for first in firsts)
    assert [rest for _, rest in parts][-4:] == [b"body", b"ody", b"dy", b"y"]


def test_frames_are_cut_in_their_heads_between_them_and_inside_characters() -> None:
    one, two = frames(ws.TextMessage("a€b")), frames(ws.Ping(b""))
    places = interesting(one + two)
    assert {1, 2, 4, 6} <= set(places), "opcode, length, mask"
    assert {6 + 2, 6 + 3} <= set(places), "inside the euro sign"
    assert len(one) in places
    assert {len(one) + 1, len(one) + 2} <= set(places)


def test_long_frames_are_cut_inside_their_length() -> None:
    assert {1, 2, 4, 6, 8} <= set(interesting(frames(ws.BytesMessage(b"x" * 300))))
    assert {2, 10, 12, 14} <= set(interesting(frames(ws.BytesMessage(b"x" * 70_000))))


@given(st.binary(max_size=40))
def test_every_place_is_inside(data: bytes) -> None:
    places = interesting(data)
    assert places == sorted(set(places))
    assert all(0 < place < len(data) for place in places)
    assert places or len(data) < 2


@pytest.mark.parametrize("server", ["uvicorn[h11,wsproto]", "uvicorn[httptools,wsproto]", "hypercorn", "reference"])
def test_a_request_is_answered_wherever_it_is_cut(server: str) -> None:
    report = sim.explore("hello", server=server, params={"cuts": "interesting"}, faults={"cut": 1})
    report.check()
    assert report.complete
    everywhere = sim.explore("hello", server=server, faults={"cut": 1}, max_runs=40)
    assert 10 < report.runs < 200
    assert everywhere.runs == 40
