"""Clients that race for one list, and clients that have nothing to do with one another: how many orders, and outcomes."""

from __future__ import annotations

import itertools
import math

import attrs
import pytest

import sim
from models.asgi import AsgiSend
from models.uvicorn import COMBINATIONS

from .broken import Broken

QUICK = (*COMBINATIONS, "hypercorn", "reference")
pytestmark = pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning")


@pytest.mark.parametrize("server", QUICK)
def test_three_racing_clients_have_six_lists(server):
    report = sim.explore("racing_clients", server=server, params={"clients": 3})
    report.check()
    assert report.complete
    assert report.runs == report.outcomes == 6


def test_each_order_of_the_clients_is_a_list():
    lists = set()

    @sim.always("seen", "Every list is seen.")
    def see(trace):
        lists.update(e.message["text"] for e in trace.of(AsgiSend) if e.message["type"] == "websocket.send")

    scenario = attrs.evolve(sim.registry.find_scenario("racing_clients"), invariants=(see,))
    assert sim.explore(scenario, server="reference", params={"clients": 4}).complete
    names = [f"client-{n}" for n in (1, 2, 3, 4)]
    assert lists == {" ".join(order) for order in itertools.permutations(names)}


@pytest.mark.parametrize("server", QUICK)
def test_independent_clients_have_every_merge_of_their_chains_and_one_outcome(server):
    report = sim.explore("independent_echoes", server=server)
    report.check()
    assert report.complete
    assert report.runs == math.comb(8, 4)
    assert report.outcomes == 1


def changing(change):
    """A server's mistake: each text that comes in is changed."""

    async def between(app, scope, receive, send):
        async def changed():
            message = dict(await receive())
            if message["type"] == "websocket.receive":
                message["text"] = change(message["text"])
            return message

        await app(scope, changed, send)

    return between


@pytest.mark.parametrize(
    ("scenario", "invariant", "change"),
    [
        ("racing_clients", "list-is-a-permutation", lambda text: text.replace("client-2", "client-1")),
        ("independent_echoes", "echoes-in-order", str.upper),
    ],
)
def test_a_server_that_changes_messages_is_found(scenario, invariant, change):
    report = sim.explore(scenario, server=Broken(changing(change)))
    assert [d.invariant for d in report.discoveries] == [invariant]
    assert report.discovery.runs == report.runs


def test_nobody_cannot_race():
    with pytest.raises(sim.UsageError, match=r"clients=0 would race for nothing\. Let there be 1 or more\."):
        sim.explore("racing_clients", server="reference", params={"clients": 0})
