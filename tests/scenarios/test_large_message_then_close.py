"""A large message, a Close, and a slow client that still sends: who loses the message, and in which orders."""

from __future__ import annotations

import pytest

import sim
from models.asgi import AsgiSend
from models.uvicorn import COMBINATIONS
from models.websocket import WsBinary, WsClose, WsText
from sim.registry import find_scenario
from sim.world.clock import Clock
from sim.world.events import TcpClosed
from sim.world.trace import Trace

SMALL = {"size": 300_000}
"""Larger than what a client's window takes, so that there is something to lose; and few reads, so few orders."""
pytestmark = pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")


@pytest.mark.sim("large_message_then_close", servers=[*COMBINATIONS, "reference"], params=SMALL)
def test_whoever_reads_on_until_the_clients_close_loses_nothing(sim_report):
    sim_report.check()
    assert sim_report.complete
    assert sim_report.runs > 10


def test_hypercorn_closes_at_once_and_loses_what_is_under_way():
    report = sim.explore("large_message_then_close", server="hypercorn", params=SMALL)
    assert report.complete
    (discovery,) = report.discoveries
    assert discovery.invariant == "sent-before-close-arrives"
    assert 0 < discovery.runs < report.runs
    _, run = sim.replay(discovery.schedule)
    assert [e.how for e in run.trace.of(TcpClosed)] == ["reset"]
    assert [e.way for e in run.trace.of(WsText)] == ["sends"]
    assert list(run.trace.of(WsClose)) == []


def test_without_a_word_of_the_client_nothing_is_lost():
    schedule = sim.Schedule("large_message_then_close", "hypercorn", (), SMALL)
    _, run = sim.replay(schedule, any_version=True)
    assert run.violations == []
    assert [len(e.payload) for e in run.trace.of(WsBinary) if e.way == "gets"] == [SMALL["size"]]
    assert [(e.way, e.payload) for e in run.trace.of(WsClose)] == [("gets", 1000), ("sends", 1000)]


def trace(*sent, got=()):
    made = Trace(Clock())
    for message in sent:
        made.record(AsgiSend, "websocket 1", {"type": "websocket.send", "bytes": message})
    made.record(AsgiSend, "websocket 1", {"type": "websocket.close", "code": 1000})
    for message in got:
        made.record(WsBinary, "client", "gets", message)
    return made


@pytest.mark.parametrize(
    ("sent", "got", "message"),
    [
        ([b"abcd"], [b"abcd"], None),
        ([b"abcd"], [], "the application sent a message of 4 bytes, and the client got no whole one"),
        ([b"abcd"], [b"abc"], "the application sent a message of 4 bytes, and the client got 3 in 1 messages"),
        ([b"abcd"], [b"abcd"] * 2, "the application sent a message of 4 bytes, and the client got 8 in 2 messages"),
    ],
)
def test_the_claim(sent, got, message):
    (claim,) = (
        i for i in find_scenario("large_message_then_close").invariants if i.name == "sent-before-close-arrives"
    )
    violation = claim.check(trace(*sent, got=got))
    assert (violation.message if violation is not None else None) == message


@pytest.mark.slow
@pytest.mark.real
def test_the_loss_of_uvicorn_0_52_0_and_the_proof_of_the_installed_one():
    old = [sim.explore("large_message_then_close", server="uvicorn[h11,websockets-sansio]==0.52.0") for _ in range(2)]
    assert [r.verdict for r in old] == ["violated", "violated"]
    assert old[0].discoveries == old[1].discoveries
    assert old[0].complete
    new = sim.explore("large_message_then_close", server="uvicorn[h11,websockets-sansio]")
    assert (new.verdict, new.complete) == ("holds", True)
    assert new.runs > 100
