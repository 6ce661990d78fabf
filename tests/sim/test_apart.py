"""One connection after the other: what claims could be about is found, as where every state is visited, and lies are seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import pytest

from models.websocket import WsText
from sim import eventually, explore
from sim.registry import find_scenario
from sim.search import apart as module
from sim.search.apart import Apart, apart
from sim.search.isolation import NotIsolated
from sim.search.reduction import APART, ISOLATED
from sim.world.events import LoggedWarning

from .rooms import Rooms, Visits, told
from .toys import Toy, chattering, toy_scenario

if TYPE_CHECKING:
    from sim import Trace

MOST = 3_000
KINDS: dict[str, dict[str, Any]] = {
    "straight": {},
    "three": {"connections": 3},
    "round": {"round": True},
    "reaching": {"reaches": True},
    "all": {"round": True, "reaches": True},
}


class Searched(NamedTuple):
    """Whether a search found all there is to tell, in how many runs, and whether connections were apart to its end."""

    right: bool
    runs: int
    visited: int
    states: int
    held: bool


def searched(seed: int, **kind: Any) -> Searched | None:
    """None: there are too many states."""
    rooms = Rooms(seed, **kind)
    states = rooms.states(MOST)
    if states is None:
        return None
    visits = Visits(rooms, Apart())
    left_out = visits.left_out
    policy = left_out.wrap(lambda: left_out.policy(isolated=True))
    for _ in policy.runs(visits.play):
        pass
    assert policy.complete
    right = told(visits.reached) == told(states)
    return Searched(right, visits.runs, len(left_out), len(states), left_out._apart is not None)


def several(seeds: range, **kind: Any) -> list[Searched]:
    return [found for seed in seeds if (found := searched(seed, **kind)) is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_there_is_to_tell_is_found(kind: str) -> None:
    found = several(range(50), **KINDS[kind])
    assert len(found) > 20
    assert all(each.right for each in found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_that_there_is_to_tell_is_found_of_many(kind: str) -> None:
    assert all(each.right for each in several(range(50, 300), **KINDS[kind]))


def test_fewer_states_are_visited_where_connections_are_apart() -> None:
    found = several(range(80), connections=3)
    assert all(each.held for each in found)
    assert 5 * sum(each.visited for each in found) < sum(each.states for each in found)


@pytest.mark.parametrize("kind", ["round", "reaching"])
def test_where_they_are_not_apart_the_search_begins_again(kind: str) -> None:
    found = several(range(80), **KINDS[kind])
    assert 2 < sum(not each.held for each in found) < len(found)


# Planted faults.


def looks_at_no_footprint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Apart, "_look", lambda *_: None)


def begins_before_the_mailbox_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    true = Apart._of_one

    def hasty(self: Apart, options: Any, mine: str | None) -> set[int]:
        posts = {number for number, option in enumerate(options) if len(option.key) == 2}
        return true(self, options, mine) - posts or posts

    monkeypatch.setattr(Apart, "_of_one", hasty)


def does_not_see_circles(monkeypatch: pytest.MonkeyPatch) -> None:
    place = module._Place
    monkeypatch.setattr(module, "_Place", lambda depth, _key, now, latest: place(depth, b"", now, latest))


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (looks_at_no_footprint, "reaching"),
        (begins_before_the_mailbox_is_empty, "three"),
        (does_not_see_circles, "round"),
    ],
)
def test_a_search_that_is_planted_wrong_is_seen(monkeypatch: pytest.MonkeyPatch, plant: Any, kind: str) -> None:
    plant(monkeypatch)
    assert not all(each.right for each in several(range(80), **KINDS[kind]))


def test_what_hides_that_it_reaches_over_is_missed() -> None:
    """No footprint shows it: that is what is declared, and what `--check-isolation` is for."""
    assert not all(each.right for each in several(range(80), hides=True))


# Scenarios.


def test_it_is_for_claims_about_the_events_of_each_connection() -> None:
    scenario = find_scenario("independent_echoes")
    assert apart(scenario) is not None
    assert apart(attrs.evolve(scenario, isolated=False)) is None
    assert apart(attrs.evolve(scenario, past="outcome")) is None
    assert apart(attrs.evolve(scenario, past=(WsText, LoggedWarning))) is None


def outcomes(server: str, *reduce: str, **params: Any) -> tuple[set[object], Any]:
    """What the clients' texts can be, and the report."""
    found: set[object] = set()

    @eventually("seen", "Every whole run is seen.")
    def see(trace: Trace) -> None:
        said: dict[str, list[object]] = {}
        for event in trace.of(WsText):
            said.setdefault(event.actor, []).append((event.way, event.payload))
        found.add(tuple(sorted((actor, tuple(texts)) for actor, texts in said.items())))

    scenario = find_scenario("independent_echoes")
    watched = attrs.evolve(scenario, invariants=(*scenario.invariants, see))
    report = explore(watched, server=server, params=params, reduce=reduce)
    assert report.complete
    return found, report


@pytest.mark.parametrize(
    "server", ["granian==1.4.2", "uvicorn[h11,wsproto]", pytest.param("granian==1.4.1", marks=pytest.mark.slow)]
)
def test_servers_come_to_the_same(server: str) -> None:
    everything, plain = outcomes(server, "states", clients=2, pongs=True)
    one_by_one, reduced = outcomes(server, "classes", "states", clients=2, pongs=True)
    assert one_by_one == everything
    assert reduced.verdict == plain.verdict
    assert {d.invariant for d in reduced.discoveries} == {d.invariant for d in plain.discoveries}
    assert reduced.states < plain.states / 2


def test_a_timer_of_the_moment_is_no_matter_of_one_connection() -> None:
    """Without a bound on latency a timer may come before any delivery, and nothing is left out."""
    scenario = toy_scenario(chattering(2, 1), isolated=True, past=(WsText,))
    assert apart(scenario) is not None
    every = explore(attrs.evolve(scenario, isolated=False), server=Toy(), reduce=["classes", "states"])
    report = explore(scenario, server=Toy(), reduce=["classes", "states"])
    assert report.states == every.states
    assert report.assumes == (ISOLATED,)


@pytest.mark.parametrize("server", ["uvicorn[h11,wsproto]", "granian==1.4.1"])
def test_turns_are_looked_at(server: str) -> None:
    report = explore(
        "independent_echoes",
        server=server,
        params={"pongs": True},
        reduce=["classes", "states"],
        check_isolation=True,
    )
    assert report.complete
    assert report.assumes == (APART,)
    assert report.swaps > 0


@pytest.mark.parametrize("server", ["uvicorn[h11,wsproto]", "hypercorn", "reference"])
def test_a_lie_is_seen_where_connections_take_turns(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.search.isolation.SWAPS_IN_A_RUN", 0)
    liar = attrs.evolve(find_scenario("racing_clients"), isolated=True, past=(WsText,))
    with pytest.raises(NotIsolated, match="It matters in which order connection . and connection . take turns"):
        explore(liar, server=server, reduce=["classes", "states"], check_isolation=True)
