"""What a search found out about one subject."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import attrs

from sim.search import failure
from sim.search.reduction import REDUCTIONS

if TYPE_CHECKING:
    from collections.abc import Container

    import networkx as nx

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.schedule import Schedule


@attrs.frozen
class Discovery:
    """The simplest run that breaks an invariant: fewest deviations, then fewest events.

    If the invariant is a `sometimes` that no run shows, it is the plainest run of all.

    Attributes:
        invariant: its name.
        claim: it, as a sentence.
        message: how the run breaks it.
        schedule: reproduces the run.
        events: how many events its trace has.
        runs: how many of the explored runs break the invariant.
        seq: the number of the event at which it shows, or None.
    """

    invariant: str
    claim: str
    message: str
    schedule: Schedule
    events: int
    runs: int
    seq: int | None

    @property
    def blob(self) -> str:
        """The schedule in print."""
        return self.schedule.to_blob()

    @property
    def replay_line(self) -> str:
        """What to paste into a shell."""
        return f"asgi-sim replay {self.blob}"


@attrs.frozen
class Observation:
    """Runs that the scenario calls by one name.

    Attributes:
        name: the name.
        runs: how many of the explored runs show it.
        schedule: the simplest of them.
    """

    name: str
    runs: int
    schedule: Schedule


@attrs.frozen
class Bound:
    """What ended a search, or cut runs short.

    Attributes:
        name: "max-runs", "max-choices", "max-seconds" or "horizon"; or "replay", if only one schedule was asked for.
        value: what it was.
        advice: how to raise it.
    """

    name: str
    value: float
    advice: str

    def __str__(self) -> str:
        return f"{self.name}={self.value:g}"


@attrs.frozen(repr=False)
class Report:
    """The answer of one search.

    Attributes:
        scenario: what was explored.
        server: the subject's requirement.
        kind: "real" or "model".
        complete: whether every order was explored.
        runs: how many schedules were run, each once.
        reruns: how many were run a second time to look for nondeterminism.
        outcomes: how many distinct outcomes they came to.
        bound: what cut the search short, or None.
        seconds: real seconds.
        discoveries: one for each invariant that some run breaks, simplest first; then one for each `sometimes` that
            no run shows, if all were tried.
        observed: the scenario's names for what the runs showed, commonest first.
        settings: how to search again: parameters, granularity and bounds.
        subject: the server itself, to run more with.
        unwitnessed: each `sometimes` that no run has shown yet, if not all were tried.
        faults: how often each could strike in one run.
        struck: in how many runs each of them did.
        shrink_runs: how many runs went into shrinking what was found; they count as no order explored.
        reduce: the reductions by which there are fewer runs than orders.
        abandoned: how many runs were broken off because they repeated an earlier one; they are not among `runs`.
        assumes: what the reductions take for granted because the scenario declares it.
        swaps: how often deliveries changed places to look for that, or None if nobody asked.
        states: how many distinct states were found, or None if they were not told apart.
        blind: types of objects that could not be seen into, so that states with them are like no other; and how often.
    """

    scenario: Scenario
    server: str
    kind: str
    complete: bool
    runs: int
    reruns: int
    outcomes: int
    bound: Bound | None
    seconds: float
    discoveries: tuple[Discovery, ...]
    observed: tuple[Observation, ...]
    settings: dict[str, Any]
    subject: Subject | None = attrs.field(default=None, eq=False)
    unwitnessed: tuple[str, ...] = ()
    shrink_runs: int = 0
    faults: dict[str, int] = attrs.field(factory=dict)
    reduce: tuple[str, ...] = ()
    abandoned: int = 0
    assumes: tuple[str, ...] = ()
    swaps: int | None = None
    struck: dict[str, int] = attrs.field(factory=dict)
    states: int | None = None
    blind: dict[str, int] = attrs.field(factory=dict, eq=False)

    def __repr__(self) -> str:
        name = self.scenario.name if self.scenario is not None else "?"
        bound = f", {self.bound}" if self.bound is not None else ""
        return f"<Report: {name} on {self.server} ({self.kind}): {self.verdict}, {failure.counted(self.runs)}{bound}>"

    @property
    def verdict(self) -> str:
        """ "holds" (complete), "violated" or "inconclusive"."""
        if self.discoveries:
            return "violated"
        return "holds" if self.complete else "inconclusive"

    @property
    def discovery(self) -> Discovery | None:
        """The simplest one."""
        return self.discoveries[0] if self.discoveries else None

    def check(self, *, allow_inconclusive: bool = False) -> None:
        """Nothing if the scenario holds, as in a test.

        Args:
            allow_inconclusive: whether a search that a bound ended is good enough if it found nothing.

        Raises:
            CheckFailed: it is violated, or not every order was explored. An `AssertionError`, with the story.
        """
        __tracebackhide__ = True
        if self.discovery is not None:
            raise failure.violated(self, self.discovery)
        replayed = self.bound is not None and self.bound.name == "replay"
        if not (self.complete or allow_inconclusive or replayed):
            raise failure.inconclusive(self)

    def graph(self, **options: Any) -> nx.DiGraph:
        """The states that the runs went through, as a graph; see `sim.show.graph.state_graph`."""
        graph: nx.DiGraph = importlib.import_module("sim.show.graph").state_graph(self, **options)
        return graph

    def _repr_html_(self) -> str:
        html: str = importlib.import_module("sim.show.html").report_html(self)
        return html

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """What Jupyter shows. Only what is asked for is made: the story costs a run."""
        makers = {"text/plain": self.__repr__, "text/html": self._repr_html_}
        wanted = [m for m in makers if (not include or m in include) and (not exclude or m not in exclude)]
        return {mime: makers[mime]() for mime in wanted}

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        answer: dict[str, Any] = {
            "server": self.server,
            "kind": self.kind,
            "verdict": self.verdict,
            "complete": self.complete,
            "runs": self.runs,
            "outcomes": self.outcomes,
            **({"states": self.states} if self.states is not None else {}),
            **({"blind": self.blind} if self.blind else {}),
            "bound": str(self.bound) if self.bound is not None else None,
            "seconds": round(self.seconds, 3),
            "discoveries": [
                {
                    "invariant": d.invariant,
                    "message": d.message,
                    "schedule": d.blob,
                    "deviations": d.schedule.deviations,
                    "events": d.events,
                    "runs": d.runs,
                }
                for d in self.discoveries
            ],
            "observed": {o.name: o.runs for o in self.observed},
            **self._reduced(),
        }
        if self.faults:
            answer["faults"] = self.faults
            answer["struck"] = self.struck
        return answer

    def _reduced(self) -> dict[str, Any]:
        """What there is to say of reductions, if there were any."""
        if not self.reduce:
            return {}
        record: dict[str, Any] = {
            "reduce": list(self.reduce),
            "abandoned": self.abandoned,
            "preserves": {name: REDUCTIONS[name].preserves for name in self.reduce},
            "assumes": list(self.assumes),
        }
        return record if self.swaps is None else {**record, "swaps": self.swaps}
