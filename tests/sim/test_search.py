"""Exhaustive search is complete: it runs what plain enumeration lists, each once, in order."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sim import always
from sim.search.exhaustive import Exhaustive
from sim.search.runner import Runner
from sim.world.choices import Choices

from .toys import Toy, chattering, got, noted, picking, search, toy_scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sim import Trace

# A tree of choices: a leaf is None, a node is a list of what follows each of its picks.
TREES = st.recursive(st.none(), lambda deeper: st.lists(deeper, min_size=1, max_size=4), max_leaves=40)


def leaves(tree: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """The picks that lead to each leaf, in order; a node with one child asks nothing."""
    if tree is None:
        yield path
        return
    for pick, child in enumerate(tree):
        yield from leaves(child, path if len(tree) == 1 else (*path, pick))


def walk(tree: Any, forced: Sequence[int]) -> Any:
    choices = Choices(forced)
    while tree is not None:
        tree = tree[choices.choose(len(tree), "node")]
    return SimpleNamespace(choices=choices.made)


@given(TREES)
@example(None)
@example([None])
@example([[None, None], None])
def test_visits_each_leaf_of_any_tree_once_and_in_order(tree: Any) -> None:
    visited = [tuple(c.pick for c in run.choices) for run in Exhaustive().runs(lambda forced: walk(tree, forced))]
    assert visited == list(leaves(tree))


@settings(max_examples=25)
@given(st.lists(st.integers(1, 4), max_size=5))
def test_runs_the_product_of_independent_choices(widths: list[int]) -> None:
    seen = []

    @always("seen", "Every run is seen.")
    def see(trace: Trace) -> None:
        seen.extend(noted(trace))

    report = search(picking(*widths), see)
    firsts = [seen[0], *sorted(set(seen))[1:]] if seen else []
    assert sorted(set(seen)) == list(itertools.product(*map(range, widths)))
    assert firsts[0] == (0,) * len(widths)
    assert report.runs == math.prod(widths)
    assert len(seen) == report.runs + report.reruns
    assert report.verdict == "holds"


@pytest.mark.parametrize(("clients", "messages"), [(1, 3), (2, 1), (2, 2), (2, 3), (3, 1)])
def test_explores_every_interleaving_of_messages_to_a_server(clients: int, messages: int) -> None:
    seen = []

    @always("seen", "Every run is seen.")
    def see(trace: Trace) -> None:
        seen.append(got(trace))

    report = search(chattering(clients, messages), see)
    # What can be ordered: of each client its SYN, and then its messages.
    chain = messages + 1
    assert report.runs == math.factorial(clients * chain) // math.factorial(chain) ** clients
    assert report.verdict == "holds"
    assert report.bound is None
    assert report.outcomes == len(set(seen))
    sent = [[f"{chr(97 + number)}{m}" for m in range(messages)] for number in range(clients)]
    assert set(seen) == set(merges(sent))


def merges(chains: list[list[str]]) -> Iterator[tuple[str, ...]]:
    """Every merge of the chains that keeps the order of each."""
    owners = [number for number, chain in enumerate(chains) for _ in chain]
    for order in set(itertools.permutations(owners)):
        left = [iter(chain) for chain in chains]
        yield tuple(next(left[number]) for number in order)


@pytest.mark.parametrize("granularity", ["turn", "iteration"])
def test_runs_the_same_schedules_as_a_plain_recursive_search(granularity: str) -> None:
    runner = Runner(toy_scenario(chattering(1, 3, laps=3)), Toy(), granularity=granularity)

    def below(prefix: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Every schedule that begins with `prefix` and has only zeros behind it, and then every other one."""
        run = runner.run(prefix)
        yield run.picks
        for position in range(len(prefix), len(run.choices)):
            for pick in range(1, run.choices[position].width):
                yield from below((*run.picks[:position], pick))

    with runner.session():
        plain = list(below(()))
        ours = [run.picks for run in Exhaustive().runs(runner.run)]
    assert len(set(plain)) == len(plain)
    assert ours == sorted(plain)


def test_iterations_show_all_that_turns_show_and_more() -> None:
    seen: dict[str, set[tuple[str, ...]]] = {"turn": set(), "iteration": set()}
    for granularity, orders in seen.items():

        @always("seen", "Every run is seen.")
        def see(trace: Trace, orders: Any = orders) -> None:
            orders.add(got(trace))

        assert search(chattering(1, 3, laps=3), see, granularity=granularity).verdict == "holds"
    assert seen["turn"] == {("a0", "a1", "a2")}
    assert seen["turn"] < seen["iteration"]
    # Between two messages: written down apart; together; read in one go.
    gaps = itertools.product((" ", "+", ""), repeat=2)
    assert seen["iteration"] == {tuple(f"a0{one}a1{two}a2".split()) for one, two in gaps}


def test_progress_is_told_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.search.explore.PROGRESS_EVERY", 0.0)
    told = []
    report = search(picking(3, 3), on_progress=told.append)
    assert [p.runs for p in told] == list(range(1, 10))
    assert told[-1].outcomes == report.outcomes == 9
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(told))


def test_a_search_of_one_run() -> None:
    report = search(picking())
    assert (report.verdict, report.runs, report.reruns, report.complete) == ("holds", 1, 1, True)
