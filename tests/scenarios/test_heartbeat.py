"""A day of a .NET client's Pongs."""

from __future__ import annotations

import pytest

import sim
from models.uvicorn import COMBINATIONS
from models.websocket import WsPong, WsText

BEATS = 24 * 120
pytestmark = pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")


def day(report):
    """What the first schedule's client sent in all: Pongs and texts; and the echoes."""
    schedule = report.observed[0].schedule
    _, run = sim.replay(schedule)
    pongs = [e.time for e in run.trace.of(WsPong) if e.way == "sends"]
    texts = [e.payload for e in run.trace.of(WsText) if e.way == "sends"]
    echoes = [e.payload for e in run.trace.of(WsText) if e.way == "gets"]
    return pongs, texts, echoes


@pytest.mark.sim("heartbeat", servers=["hypercorn", "granian==1.4.2", "reference"])
def test_a_whole_day(sim_report):
    sim_report.check()
    assert sim_report.complete
    assert sim_report.runs >= 2
    pongs, texts, echoes = day(sim_report)
    assert len(pongs) == BEATS + 1
    assert pongs[-1] == pytest.approx(24 * 3600, abs=10.0)
    assert texts == echoes == [f"message before beat {720 * n}" for n in (1, 2, 3, 4)] + ["the last message"]


@pytest.mark.sim("heartbeat", servers=COMBINATIONS, params={"hours": 0.1, "every": 0.05})
def test_some_minutes_of_it_on_uvicorn(sim_report):
    sim_report.check()
    assert sim_report.complete
    assert len(day(sim_report)[0]) == 13


@pytest.mark.slow
@pytest.mark.sim("heartbeat", servers=["uvicorn[h11,wsproto]"])
def test_a_whole_day_on_uvicorn_which_really_polls(sim_report):
    sim_report.check()
    assert sim_report.complete


@pytest.mark.sim("heartbeat", servers=["granian==1.4.1"])
def test_the_first_heartbeat_is_the_end_of_it(sim_report):
    """The application dies of the first Pong, half a minute after the handshake; the client notices, and all ends well."""
    assert sim_report.complete
    assert {d.invariant for d in sim_report.discoveries} >= {"pong-no-flow-error", "pong-unlogged"}
    pongs, _, echoes = day(sim_report)
    assert pongs == [pytest.approx(37.0, abs=0.5)]
    assert echoes == []
    assert [o.name for o in sim_report.observed] == ["error at once: a receive() was pending"]
