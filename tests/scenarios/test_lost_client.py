"""A client that is lost at any moment: real servers keep their promises, and Granian 1.4.4 does not (its issue 575)."""

from __future__ import annotations

import pytest

import sim
from sim.world.events import Fault


@pytest.mark.sim("lost_client", servers=["uvicorn[h11,wsproto]", "hypercorn", "reference"], faults={"rst": 1})
def test_a_reset_is_told_to_everybody_who_waits(sim_report):
    sim_report.check()
    assert sim_report.complete
    assert sim_report.faults == {"rst": 1}


@pytest.mark.sim("lost_client", servers=["uvicorn[httptools,websockets-sansio]", "hypercorn"], faults={"cancel": 1})
def test_an_application_that_is_cancelled_ends(sim_report):
    assert sim_report.complete
    assert not [d for d in sim_report.discoveries if d.invariant in ("application-ends", "asgi-event-order")]


def test_granian_tells_of_a_reset_by_an_exception():
    report = sim.explore("lost_client", server="granian==1.4.4", faults={"rst": 1}, max_runs=400)
    broken = {d.invariant: d for d in report.discoveries}
    assert "receive-tells-of-the-end" in broken
    assert broken["receive-tells-of-the-end"].message == 'receive() raised RuntimeError("ASGI flow error")'
    _, run = sim.replay(broken["receive-tells-of-the-end"].schedule)
    assert [event.fault for event in run.trace.of(Fault)] == ["rst"]


def test_the_story_names_the_fault():
    from sim.show.story import tell

    report = sim.explore("lost_client", server="granian==1.4.4", faults={"rst": 1}, max_runs=400)
    discovery = next(d for d in report.discoveries if d.invariant == "receive-tells-of-the-end")
    _, run = sim.replay(discovery.schedule)
    assert "(fault)" in str(tell(run, "receive-tells-of-the-end"))
