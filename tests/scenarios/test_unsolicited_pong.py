"""The story of issue 318: violated up to 1.4.1 in four ways that the search tells apart, and by nobody else."""

from __future__ import annotations

import pytest

import sim
from models.asgi import AsgiReceiveFailed
from models.uvicorn import COMBINATIONS
from models.websocket import WsHandshake, WsPong, WsText
from scenarios.applications import RECEIVING
from sim.search.runner import Runner
from sim.world.events import Logged

AT_ONCE = "error at once: a receive() was pending"
NEXT = "error at the next receive()"
AHEAD = "error at the next receive(), ahead of the data behind the Pong"
WARNING = "warning alone: the receive() that read the Pong was cancelled"
NOTHING = "nothing at all: the application never receives again"
IGNORED = "the Pong is ignored"
LOST = "the Pong is ignored; the message is lost with the receive() that the application cancelled"

pytestmark = pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")


@pytest.mark.sim("unsolicited_pong", servers=[*COMBINATIONS, "hypercorn", "reference"])
def test_a_pong_does_no_harm(sim_report):
    sim_report.check()
    assert sim_report.complete
    assert {o.name for o in sim_report.observed} == {IGNORED, NOTHING}


@pytest.mark.sim("unsolicited_pong", servers=["granian==1.4.2"])
def test_the_fix_repairs_it_and_shows_what_else_a_cancelled_receive_costs(sim_report):
    sim_report.check()
    assert sim_report.complete
    assert {o.name for o in sim_report.observed} == {IGNORED, NOTHING, LOST}


@pytest.mark.sim("unsolicited_pong", servers=["granian==1.4.1"])
def test_all_four_outcomes_of_the_real_server_are_found_and_told_apart(sim_report):
    report = sim_report
    assert report.verdict == "violated"
    assert report.complete
    observed = {o.name: o for o in report.observed}
    assert set(observed) == {AT_ONCE, NEXT, AHEAD, WARNING, NOTHING}
    assert sum(o.runs for o in report.observed) == report.runs

    broken = {d.invariant: d for d in report.discoveries}
    assert set(broken) == {"pong-no-flow-error", "pong-unlogged", "texts-echoed", "close-handshake"}
    # Each run warns but those in which nobody reads the Pong; each error is one of three kinds.
    assert broken["pong-unlogged"].runs == report.runs - observed[NOTHING].runs
    assert broken["pong-no-flow-error"].runs == report.runs - observed[NOTHING].runs - observed[WARNING].runs
    assert report.discovery.schedule.deviations == 0

    # What each is called is what its simplest run shows.
    for name, observation in observed.items():
        runner, run = sim.replay(observation.schedule)
        trace = run.trace
        pong = next(e for e in trace.of(WsPong))
        errors = [e for e in trace.of(AsgiReceiveFailed) if e.text == "ASGI flow error"]
        warnings = [e for e in trace.of(Logged) if "Unsupported websocket message received Pong([])" in e.message]
        assert runner.scenario.observe(trace) == name
        assert bool(errors) == (name in (AT_ONCE, NEXT, AHEAD))
        assert bool(warnings) == (name != NOTHING)
        assert all(e.seq > pong.seq for e in (*errors, *warnings))

    # No single order shows it: the names come from orders that differ.
    schedules = {o.schedule.picks for o in report.observed}
    assert len(schedules) == len(observed)
    assert observed[WARNING].schedule.deviations > 0


def test_no_order_is_written_into_the_scenario():
    """The first schedule of each way of receiving shows one outcome at most, and not each way the same."""
    first = {}
    scenario, subject = sim.registry.find_scenario("unsolicited_pong"), sim.registry.find_subject("granian==1.4.1")
    for way in RECEIVING:
        runner = Runner(scenario, subject, params={"receiving": way})
        with runner.session():
            run = runner.run(())
        first[way] = run.observed
    assert set(first.values()) < {AT_ONCE, NEXT, AHEAD, WARNING, NOTHING}


def test_every_order_of_the_two_messages_and_every_way_of_receiving_is_a_choice():
    runner = Runner(sim.registry.find_scenario("unsolicited_pong"), sim.registry.find_subject("reference"))
    orders, widths = set(), set()
    with runner.session():
        for way in range(len(RECEIVING)):
            for first in range(2):
                run = runner.run((way, first))
                sent = [e.kind for e in run.trace.of(WsHandshake, WsPong, WsText) if getattr(e, "way", "") == "sends"]
                orders.add(tuple(kind for kind in sent if kind in ("ws.pong", "ws.text")))
                widths.add((run.choices[0].width, run.choices[1].width))
    assert orders >= {("ws.pong", "ws.text"), ("ws.text", "ws.pong")}
    assert widths == {(len(RECEIVING), 2)}


@pytest.mark.parametrize("way", RECEIVING)
def test_one_way_of_receiving_by_parameter(way):
    report = sim.explore("unsolicited_pong", server="reference", params={"receiving": way, "patience": 0.3})
    report.check()
    assert report.complete


def test_an_unknown_way_is_refused():
    with pytest.raises(sim.UsageError, match="any, echo, busy, polling, deaf, starlette"):
        sim.explore("unsolicited_pong", server="reference", params={"receiving": "loudly"})
