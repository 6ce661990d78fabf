"""One run of each class, and the states of all: held against every order of small worlds drawn at random."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import pytest

from sim import explore
from sim.registry import find_scenario
from sim.search import classes, races
from sim.search.classes import Classes, Node, awake
from sim.search.exhaustive import Exhaustive
from sim.world.footprint import Watch

from .letters import Letters

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 600
"""Worlds with more orders are left out."""
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "isolated": {"isolated": True},
    "slow": {"slow": True},
    "alarms": {"alarms": True},
    "all": {"isolated": True, "slow": True, "alarms": True},
}


class Compared(NamedTuple):
    """What a search found of a world: how many orders there are, whether it found the same, and what it broke off."""

    orders: int
    right: bool
    runs: int
    abandoned: int


def compared(seed: int, make: Callable[..., Classes] = Classes, **kind: Any) -> Compared | None:
    """None: there are too many orders."""
    letters = Letters(seed, **kind)
    plain: list[Any] = list(islice(Exhaustive().runs(letters.play), MOST))
    if len(plain) == MOST:
        return None
    policy = make(isolated=letters.isolated)
    found: list[Any] = list(policy.runs(letters.play))
    assert policy.complete
    traces, states = ([getattr(run, what) for run in found] for what in ("trace", "state"))
    once = len(traces) == len(set(traces))
    right = once and set(traces) == {run.trace for run in plain} and set(states) == {run.state for run in plain}
    return Compared(len(plain), right, len(found), policy.abandoned)


def several(seeds: range, make: Callable[..., Classes] = Classes, **kind: Any) -> list[Compared]:
    return [found for seed in seeds if (found := compared(seed, make, **kind)) is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_each_class_is_run_exactly_once(kind: str) -> None:
    found = several(range(30), **KINDS[kind])
    assert len(found) > 10
    assert all(each.right for each in found)
    assert sum(each.runs for each in found) < sum(each.orders for each in found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_class_of_many_worlds_is_run_exactly_once(kind: str) -> None:
    assert all(each.right for each in several(range(30, 500), **KINDS[kind]))


def asleep_only(*, isolated: bool) -> Classes:
    """A search with sleep sets and without source sets."""
    return Classes(isolated=isolated, visit=awake)


@pytest.mark.parametrize("kind", ["plain", "isolated"])
def test_source_sets_save_most_of_what_sleep_sets_break_off(kind: str) -> None:
    source, asleep = several(range(40), **KINDS[kind]), several(range(40), asleep_only, **KINDS[kind])
    assert all(each.right for each in asleep)
    assert [each.runs for each in source] == [each.runs for each in asleep]
    assert 0 < 10 * sum(each.abandoned for each in source) < sum(each.abandoned for each in asleep)


# Planted faults.


def reverses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(races, "_reverse", lambda *_: None)


def misses_the_nearest_race(monkeypatch: pytest.MonkeyPatch) -> None:
    true = races._look_back
    monkeypatch.setattr(races, "_look_back", lambda *args, **more: true(*args, **more)[1:])


def knows_no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watch, "next_timer", lambda _: 1_000.0)
    monkeypatch.setattr(races, "expand", lambda _path, _number: None)
    monkeypatch.setattr(classes, "expand", lambda _path, _number: None)


def misses_what_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Node, "want_all", lambda _: None)


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (reverses_nothing, "plain"),
        (misses_the_nearest_race, "plain"),
        (knows_no_timers, "alarms"),
        (misses_what_is_taken_back, "plain"),
    ],
)
def test_a_search_that_is_planted_wrong_is_seen(monkeypatch: pytest.MonkeyPatch, plant: Any, kind: str) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        assert all(each.right for each in several(range(40), **KINDS[kind]))


# Servers.


@pytest.mark.parametrize("clients", [2, 3, 4])
def test_no_run_of_isolated_clients_is_broken_off(clients: int) -> None:
    report = explore(
        "independent_echoes", server="uvicorn[h11,wsproto]", params={"clients": clients}, reduce=["classes"]
    )
    assert (report.complete, report.runs, report.abandoned) == (True, 1, 0)


def test_no_run_of_two_clients_that_are_not_isolated_is_broken_off() -> None:
    scenario = attrs.evolve(find_scenario("independent_echoes"), isolated=False)
    report = explore(scenario, server="uvicorn[h11,wsproto]", reduce=["classes"])
    assert (report.complete, report.runs, report.abandoned) == (True, 6, 0)
