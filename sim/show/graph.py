"""The states that a search went through, as a plain `networkx.DiGraph`.

Theory of operation
===================

A report keeps no states: the same search is done again, which gives the same runs, with an observer that sees the
world after each thing that happened. A node is what the world's probes say, and what is in flight; two runs that come
to the same node may go on alike. An edge is what happened in between. Node 0 is the scene as it is set.

Rules for this file:

1. All attributes are plain JSON types, so that the graph can be written with any of networkx's writers.
2. What does not tell states apart for a person is left out of a node: the order in which probes were installed, and
   sizes of segments that differ only by a header's length.
3. A node is an *error* if a claim was seen to break there, or an application died there. Nodes that are only reached
   through errors are `after` them.
"""

from __future__ import annotations

import re
import time
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import attrs
import networkx as nx

from sim.errors import UsageError
from sim.registry import find_scenario, find_subject
from sim.search.elsewhere import Elsewhere
from sim.search.exhaustive import Exhaustive
from sim.search.runner import Runner
from sim.search.unit import strip
from sim.show.reading import read
from sim.world.events import TcpDeliver, TcpSend
from sim.world.watchdog import Watchdog

if TYPE_CHECKING:
    from sim.check.subject import Subject
    from sim.search.report import Report
    from sim.search.runner import Run
    from sim.world.world import World

State = tuple[tuple[str, str], ...]
IN_FLIGHT = "in flight"


def state_graph(report: Report, *, max_runs: int | None = None, max_seconds: float | None = None) -> nx.DiGraph:
    """Search again, and keep the states.

    Args:
        report: of the search.
        max_runs: how many runs to look at. None: as many as the search made.
        max_seconds: for how long to look, in real seconds. None: until it is done.

    Returns:
        Nodes are numbered in the order of their discovery. They have

        - `label`, text, and `state`, from probe to text;
        - `initial`, `final`, `runs`: whether a run begins or ends there, and how many came by;
        - `violated`: names of the claims that were seen to break there; `unkept`: of those that a run, when it ended
          there, had not kept; `died`: applications that died there; `error`: whether there is any of these;
        - `after`: whether it was only reached through errors;
        - `depth`: how many things happened on the shortest way to it;
        - `counterexample`: whether the simplest one comes by.

        Edges have `label`, `runs` and `counterexample`. The graph itself has `scenario`, `server`, `kind`, `verdict`,
        `runs`, `complete`, and `counterexample`: the nodes that the simplest one comes by, in order.

    Raises:
        UsageError: the report's server cannot be made again.
    """
    if isinstance(report.subject, Elsewhere):
        about, nodes, edges = report.subject.do(
            partial(_there, strip(report), report.scenario.name, max_runs=max_runs, max_seconds=max_seconds)
        )
        graph = nx.DiGraph(**about)
        graph.add_nodes_from(nodes)
        graph.add_edges_from(edges)
        return graph
    collected = _Collected()
    limit = report.runs if max_runs is None else min(max_runs, report.runs)
    runner = _runner(report)
    complete = report.complete
    first = report.discovery.schedule.picks if report.discovery is not None else None
    with runner.session(), Watchdog():
        started = time.perf_counter()
        max_choices = report.settings.get("max_choices")
        policy = Exhaustive()
        runs = policy.runs(partial(runner.run, limit=max_choices, observer=collected, on_end=collected.end))
        for number, _ in enumerate(runs, 1):
            if number >= limit or (max_seconds is not None and time.perf_counter() - started >= max_seconds):
                complete = complete and number >= report.runs and policy.complete
                break
        if first is not None:
            collected.marking = True
            runner.run(first, observer=collected, on_end=collected.end)
    graph = collected.graph
    graph.graph.update(
        scenario=report.scenario.name,
        server=report.server,
        kind=report.kind,
        verdict=report.verdict,
        runs=collected.runs,
        complete=complete,
        counterexample=collected.marked,
    )
    _finish(graph)
    return graph


Parts = tuple[dict[str, Any], list[Any], list[Any]]
"""A graph in plain data: networkx may be of another version on the other side."""


def _there(report: Report, scenario: str, subject: Subject, _tell: object, **limits: Any) -> Parts:
    """The job of making the graph where the subject is."""
    whole = attrs.evolve(report, scenario=find_scenario(scenario), subject=subject)
    graph = state_graph(whole, **limits)
    return graph.graph, list(graph.nodes(data=True)), list(graph.edges(data=True))


def _runner(report: Report) -> Runner:
    subject = report.subject if report.subject is not None else find_subject(report.server)
    settings = report.settings
    return Runner(
        report.scenario,
        subject,
        params=settings.get("params"),
        granularity=settings.get("granularity"),
        horizon=settings.get("horizon"),
        faults=settings.get("faults"),
        arrivals=settings.get("arrivals"),
    )


@attrs.define
class _Collected:
    """An observer of many runs."""

    graph: nx.DiGraph = attrs.field(factory=nx.DiGraph)
    runs: int = 0
    marking: bool = False
    marked: list[int] = attrs.field(factory=list)
    _nodes: dict[State, int] = attrs.field(factory=dict)
    _way: list[tuple[int, int, str]] = attrs.field(factory=list)
    """Of the run that goes on: each node with the length of its trace by then, and what led to it."""

    def __call__(self, world: World, what: str) -> None:
        """After something happened."""
        node = self._node(_canonical(world.state()))
        self._way.append((node, len(world.trace), what))

    def end(self, world: World, run: Run) -> None:
        """After the run."""
        self(world, "the end")
        way, self._way = self._way, []
        if self.marking:
            self._mark(way, run)
            return
        self.runs += 1
        nodes, graph = self.graph.nodes, self.graph
        for node in {node for node, _, _ in way}:
            nodes[node]["runs"] += 1
        for (before, _, _), (after, _, what) in pairwise(way):
            if before != after:
                if not graph.has_edge(before, after):
                    graph.add_edge(before, after, label=what, runs=0, counterexample=False)
                graph.edges[before, after]["runs"] += 1
        nodes[way[0][0]]["initial"] = True
        nodes[way[-1][0]]["final"] = True
        broken_from = len(way)
        for invariant, violation in run.violations:
            at = violation.event if invariant.quantifier == "always" else None
            place = _place(way, at.seq if at is not None else None)
            broken_from = min(broken_from, place)
            _note(nodes[way[place][0]]["violated" if at is not None else "unkept"], invariant.name)
        for event in run.trace:
            if event.kind == "app.raised":
                place = _place(way, event.seq)
                broken_from = min(broken_from, place)
                _note(nodes[way[place][0]]["died"], event.actor)
        for place, (node, _, _) in enumerate(way):
            if place <= broken_from:
                nodes[node]["after"] = False

    def _mark(self, way: list[tuple[int, int, str]], run: Run) -> None:
        """Keep the way of the counterexample, each step in the words that its story has."""
        reading = read(run.trace)
        segments = {e.seq: e for e in reading.events if isinstance(e, TcpSend)}
        self.marked = list(dict.fromkeys(node for node, _, _ in way))
        for (before, length, _), (after, until, _) in pairwise(way):
            happened = next((e for e in run.trace.events[length:until] if isinstance(e, TcpDeliver)), None)
            send = segments.get(happened.cause) if happened is not None and happened.cause is not None else None
            if send is not None and self.graph.has_edge(before, after):
                self.graph.edges[before, after]["label"] = f"{send.actor} → {send.to}: {reading.label(send)}"

    def _node(self, state: State) -> int:
        node = self._nodes.get(state)
        if node is None:
            node = self._nodes[state] = len(self._nodes)
            label = "\n".join(f"{name}: {text}" for name, text in state)
            flags = {"initial": False, "final": False, "error": False, "after": True, "counterexample": False}
            self.graph.add_node(
                node, label=label, state=dict(state), runs=0, violated=[], unkept=[], died=[], depth=0, **flags
            )
        return node


def _place(way: list[tuple[int, int, str]], seq: int | None) -> int:
    """The first place on the way by which event `seq` had happened; the last if it is None."""
    if seq is None:
        return len(way) - 1
    return next((i for i, (_, length, _) in enumerate(way) if length > seq), len(way) - 1)


def _note(names: list[str], name: str) -> None:
    if name not in names:
        names.append(name)


def _canonical(state: State) -> State:
    """Rule 2: probes by name, what is in flight last and without sizes."""
    probes = sorted((name, text) for name, text in state if name != IN_FLIGHT)
    flying = [re.sub(r"\b\d+ bytes", "data", text) for name, text in state if name == IN_FLIGHT]
    return (*probes, *((IN_FLIGHT, text) for text in flying))


def _finish(graph: nx.DiGraph) -> None:
    """Mark errors, the counterexample's way, and depths."""
    nodes = graph.nodes
    for _, data in nodes(data=True):
        data["error"] = bool(data["violated"] or data["unkept"] or data["died"])
        data["after"] = data["after"] and not data["error"]
    way = graph.graph["counterexample"]
    for node in way:
        nodes[node]["counterexample"] = True
    for before, after in pairwise(way):
        if graph.has_edge(before, after):
            graph.edges[before, after]["counterexample"] = True
    initial = [n for n, data in nodes(data=True) if data["initial"]]
    for depth, layer in enumerate(nx.bfs_layers(graph, initial) if initial else ()):
        for node in layer:
            nodes[node]["depth"] = depth


def require(graph: nx.DiGraph) -> None:
    """Refuse to draw nothing.

    Raises:
        UsageError: the graph has no states.
    """
    if not len(graph):
        raise UsageError("there is no state to draw: the search made no run.")
