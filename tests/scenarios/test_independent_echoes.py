"""Clients that share nothing: their states are a product, and the reduction by states finds no more than that."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations
from math import comb
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from models.websocket import WsText
from models.websocket_events import WsPing, WsPong
from sim import UsageError, eventually, explore
from sim.registry import find_scenario, find_subject
from sim.search.runner import Runner
from sim.world.fingerprint import Fingerprinter

if TYPE_CHECKING:
    from sim import Report, Trace, World

UVICORN = "uvicorn[h11,wsproto]"
MARGIN = 1.25
RUNS_PER_STATE = 1.5


def states(server: str, clients: int, messages: int, **options: Any) -> Report:
    params = {"clients": clients, "messages": messages}
    return explore("independent_echoes", server=server, params=params, reduce=("states",), **options)


def test_states_of_two_clients_are_a_product() -> None:
    one, two = states(UVICORN, 1, 3), states(UVICORN, 2, 3)
    assert (one.verdict, two.verdict) == ("holds", "holds")
    assert two.states <= MARGIN * one.states**2
    assert two.runs <= RUNS_PER_STATE * two.states
    assert two.outcomes == 1
    assert not two.blind


@pytest.mark.slow
def test_states_of_three_clients_are_a_product() -> None:
    one, three = states(UVICORN, 1, 3), states(UVICORN, 3, 3)
    assert three.verdict == "holds"
    assert three.states <= MARGIN * one.states**3
    alike = states(UVICORN, 3, 3, symmetry=True)
    assert alike.verdict == "holds"
    assert alike.states < one.states**3 / 4


@pytest.mark.parametrize(
    "server", ["uvicorn[httptools,wsproto]", "uvicorn[httptools,websockets-sansio]", "hypercorn", "reference"]
)
def test_other_servers(server: str) -> None:
    report = states(server, 2, 0, symmetry=True)
    assert report.verdict == "holds"
    assert report.runs < 200
    assert not report.blind


def test_granian() -> None:
    report = states("granian==1.4.2", 1, 2)
    assert report.verdict == "holds"
    assert not report.blind


def test_granian_takes_a_pong_for_an_error() -> None:
    params = {"clients": 1, "messages": 1, "pongs": True}
    by_version = {
        version: explore("independent_echoes", server=f"granian=={version}", params=params, reduce=("states",))
        for version in ("1.4.1", "1.4.2")
    }
    assert by_version["1.4.1"].verdict == "violated"
    assert by_version["1.4.2"].verdict == "holds"


PONGS = {"1.4.1": "violated", "1.4.2": "holds"}
"""What comes of a Ping, a Pong and a text each, by version."""


def pongs(version: str, clients: int, *reductions: str, order: str = "fixed", isolated: bool = True) -> Report:
    """All states of so many clients alike, or what is left of them."""
    params = {"clients": clients, "pongs": True, "order": order}
    reduce = reductions or ("states",)
    scenario = attrs.evolve(find_scenario("independent_echoes"), isolated=isolated)
    return explore(scenario, server=f"granian=={version}", params=params, reduce=reduce, symmetry=True)


def symmetric_product(one: int, clients: int) -> int:
    """How many states so many clients alike have that have `one` each and nothing in common."""
    return comb(one + clients - 1, clients)


@pytest.mark.parametrize("version", PONGS)
def test_the_states_of_two_clients_with_pongs_are_decided(version: str) -> None:
    """They are a product of what each client's are, but for the order in which results wait in the one mailbox."""
    one, two = pongs(version, 1), pongs(version, 2)
    assert two.complete
    assert two.verdict == PONGS[version]
    assert {d.invariant for d in two.discoveries} == {d.invariant for d in one.discoveries}
    product = symmetric_product(one.states, 2)
    assert product <= two.states < 1.5 * product


@pytest.mark.slow
@pytest.mark.parametrize("version", PONGS)
def test_the_states_of_three_clients_with_pongs_are_decided(version: str) -> None:
    one, three = pongs(version, 1), pongs(version, 3, "classes", "states", isolated=False)
    assert three.complete
    assert three.verdict == PONGS[version]
    product = symmetric_product(one.states, 3)
    assert product <= three.states < 3 * product


@pytest.mark.parametrize("order", ["fixed", "any"])
@pytest.mark.parametrize("version", PONGS)
def test_three_clients_with_pongs_are_decided_one_after_the_other(version: str, order: str) -> None:
    """Behind each state in which the first may end come all that the second has, and behind these the third's."""
    one, three = (pongs(version, clients, "classes", "states", order=order) for clients in (1, 3))
    assert three.complete
    assert three.assumes
    assert three.verdict == PONGS[version]
    assert {d.invariant for d in three.discoveries} == {d.invariant for d in one.discoveries}
    assert three.states < 20 * one.states


@pytest.mark.slow
@pytest.mark.parametrize("version", PONGS)
def test_two_clients_with_pongs_in_any_order_come_to_the_same_in_any_order_of_theirs(version: str) -> None:
    every, apart = (
        pongs(version, 2, "classes", "states", order="any", isolated=isolated) for isolated in (False, True)
    )
    assert every.complete
    assert every.verdict == apart.verdict == PONGS[version]
    assert {d.invariant for d in every.discoveries} == {d.invariant for d in apart.discoveries}
    assert apart.states < every.states / 10


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"order": "some"}, r"order='some' does not exist\. There are: fixed, any\."),
        ({"order": "any"}, r"order='any' is one of messages with a Ping and a Pong.*Set pongs=true, too\."),
    ],
)
def test_orders_that_do_not_exist(params: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        explore("independent_echoes", server="reference", params=params)


def test_each_client_picks_an_order() -> None:
    orders: set[tuple[str, ...]] = set()

    @eventually("seen", "Every run is seen.")
    def see(trace: Trace) -> None:
        orders.add(tuple(e.kind for e in trace.of(WsPing, WsPong, WsText) if (e.actor, e.way) == ("client-1", "sends")))

    watched = attrs.evolve(find_scenario("independent_echoes"), invariants=(see,))
    explore(watched, server="reference", params={"clients": 1, "pongs": True, "order": "any"})
    assert orders == set(permutations(("ws.ping", "ws.pong", "ws.text")))


@pytest.mark.parametrize("server", ["uvicorn[h11,websockets]", "uvicorn[httptools,websockets]"])
def test_states_behind_weak_proxies_and_uuids_are_a_product(server: str) -> None:
    one, two = states(server, 1, 1), states(server, 2, 1, symmetry=True)
    assert not two.blind
    assert two.states == symmetric_product(one.states, 2)


@pytest.mark.parametrize("server", [UVICORN, "uvicorn[httptools,websockets]", "hypercorn", "granian==1.4.1"])
def test_looking_at_states_leaves_no_trace(server: str) -> None:
    """A run is the same, byte for byte, whether or not its fingerprints are made on the way."""
    subject = find_subject(server)
    runner = Runner(find_scenario("independent_echoes"), subject, params={"clients": 2, "messages": 1})
    maker = Fingerprinter(past="conversations", knowledge=getattr(subject, "knowledge", None))
    prints: list[bytes] = []

    def look(world: World) -> bool:
        prints.append(maker.of(world))
        return False

    with runner.session():
        for picks in ((), (1, 0, 1), (1, 1, 0, 1, 1)):
            plain = runner.run(picks).trace.to_jsonl()
            maker.forget()
            assert runner.run(picks, lookout=look).trace.to_jsonl() == plain
    assert len(set(prints)) > 10


def test_one_run_has_the_same_fingerprints_again() -> None:
    subject = find_subject(UVICORN)
    runner = Runner(find_scenario("independent_echoes"), subject, params={"clients": 2, "messages": 1})
    maker = Fingerprinter(past="trace", knowledge=subject.knowledge)  # type: ignore[attr-defined]

    def prints() -> list[bytes]:
        found: list[bytes] = []
        maker.forget()
        runner.run((1, 0, 1), lookout=lambda world: bool(found.append(maker.of(world))))
        return found

    with runner.session():
        runner.run()
        first = prints()
        assert prints() == first


@pytest.mark.parametrize("way", ["echo", "starlette"])
def test_the_pong_comes_to_the_same(way: str) -> None:
    """All outcomes, all violations and all names for them, with and without the reduction."""
    found = [
        explore("unsolicited_pong", server="granian==1.4.1", params={"receiving": way}, reduce=reduce)
        for reduce in ((), ("states",))
    ]
    plain, reduced = found
    assert reduced.complete
    assert reduced.outcomes == plain.outcomes
    assert {d.invariant for d in reduced.discoveries} == {d.invariant for d in plain.discoveries}
    assert {o.name for o in reduced.observed} == {o.name for o in plain.observed}


def test_the_command_counts_states() -> None:
    command = [sys.executable, "-c", "from sim.cli import main; main()", "check", "independent_echoes"]
    done = subprocess.run(
        [*command, "--server", "reference", "--reduce", "states", "--symmetry", "--param", "messages=0"],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "states" in done.stdout
    assert "what each actor did and saw" in done.stdout
