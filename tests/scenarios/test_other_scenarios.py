"""The smaller stories on every server: hello, cancelled_receive, workaround; and what granularity adds."""

from __future__ import annotations

import pytest

import sim
from models.http1 import HttpResponse
from models.uvicorn import COMBINATIONS
from sim.registry import find_scenario, find_subject
from sim.search.exhaustive import Exhaustive
from sim.search.runner import Runner

GRANIAN = ("granian==1.4.1", "granian==1.4.2")
EVERY = (*COMBINATIONS, "hypercorn", *GRANIAN, "reference")
pytestmark = pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")


@pytest.mark.sim("hello", servers=EVERY)
def test_two_requests_are_answered(sim_report):
    sim_report.check()
    assert sim_report.complete


@pytest.mark.sim("hello", servers=["uvicorn[h11,wsproto]", *GRANIAN, "reference"], granularity="iteration")
def test_two_requests_are_answered_whatever_the_loop_is_doing(sim_report):
    sim_report.check()
    assert sim_report.complete
    assert sim_report.runs > 1


async def forgetful(scope, receive, send):
    """An application of one's own that has no lifespan and forgets to answer."""
    assert scope["type"] == "http"


def test_hello_with_an_application_of_ones_own_claims_what_every_application_is_owed():
    report = sim.explore("hello", server="reference", params={"app": f"{__name__}:forgetful"})
    (discovery,) = report.discoveries
    assert discovery.invariant == "requests-answered"
    _, run = sim.replay(discovery.schedule)
    assert [e.status for e in run.trace.of(HttpResponse)] == [500]


@pytest.mark.sim(
    "cancelled_receive",
    servers=[
        *(
            pytest.param(c, marks=pytest.mark.slow if c == "uvicorn[httptools,websockets]" else ())
            for c in COMBINATIONS
        ),
        "hypercorn",
        "reference",
    ],
)
def test_a_queue_loses_nothing_with_a_cancelled_receive(sim_report):
    sim_report.check()
    assert sim_report.complete


@pytest.mark.sim("cancelled_receive", servers=["granian==1.4.4"])
def test_granian_loses_the_message_with_the_receive_that_took_it_off_the_wire(sim_report):
    (discovery,) = sim_report.discoveries
    assert discovery.invariant == "cancelled-receive-loses-nothing"
    assert discovery.message == "the application received 'hello' never"
    assert discovery.schedule.deviations > 0
    assert sim_report.complete
    assert 0 < discovery.runs < sim_report.runs // 10


@pytest.mark.sim("workaround", servers=["granian==1.4.2", "hypercorn", "reference"])
def test_the_workaround_does_no_harm_where_it_is_not_needed(sim_report):
    sim_report.check()
    assert sim_report.complete
    assert [o.name for o in sim_report.observed] == ["no cost"]


@pytest.mark.sim("workaround", servers=["granian==1.4.1"])
def test_the_workaround_is_safe_in_every_order_and_costs_an_exception_and_a_warning_for_each_pong(sim_report):
    sim_report.check()
    assert sim_report.complete
    assert [o.name for o in sim_report.observed] == ["2 flow errors caught, 2 log records"]


@pytest.mark.parametrize(
    ("scenario", "server", "params"),
    [
        ("hello", "reference", {}),
        ("hello", "granian==1.4.1", {}),
        ("unsolicited_pong", "granian==1.4.2", {"receiving": "echo"}),
    ],
)
def test_what_can_happen_by_turns_can_happen_between_iterations(scenario, server, params):
    """The finer granularity has every outcome of the coarser one."""
    outcomes = {}
    for granularity in ("turn", "iteration"):
        runner = Runner(find_scenario(scenario), find_subject(server), params=params, granularity=granularity)
        with runner.session():
            outcomes[granularity] = {run.trace.outcome() for run in Exhaustive().runs(runner.run)}
    assert outcomes["turn"] <= outcomes["iteration"]


def test_each_scenario_tells_its_story_and_its_first_line_is_a_summary():
    for name in (
        "cancelled_receive",
        "heartbeat",
        "hello",
        "independent_echoes",
        "racing_clients",
        "unsolicited_pong",
        "workaround",
    ):
        scenario = find_scenario(name)
        assert scenario.name == name
        assert 40 < len(scenario.summary) <= 120
        assert len(scenario.story.splitlines()) > 3
        assert all(invariant.claim.endswith(".") for invariant in scenario.invariants)
        assert all(find_subject(server).requirement for server in scenario.servers)
