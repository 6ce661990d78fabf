"""Hypothesis strategies: schedules, clients' scripts, segmentations, and whole runs. `import sim.strategies`.

    from hypothesis import given, settings, strategies as st
    from sim import strategies as sims

    @sims.session()
    @settings(deadline=None)
    @given(sims.runs("unsolicited_pong", server="hypercorn", params={"patience": st.floats(0.3, 1.0)}))
    def test_a_pong_is_harmless(run):
        run.check()

Every choice of a world is a draw, and 0, the boring pick, is what draws shrink to. So inputs and schedule are one
example to Hypothesis: they shrink together, are kept together in its database, and come back together with
`@reproduce_failure`. Where a run that fails has no inputs but its schedule, `asgi-sim check --search hypothesis` and the
shrinker of `sim` do the same without a test.

Rules for this file:

1. A draw depends on nothing but the draws before it. Worlds are deterministic, so it cannot.
2. What is drawn has a `repr` that a person can read, because it is what a failing test prints.
3. A test decides what is wrong. `check()` says what the scenario claims; nothing else here judges.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs

try:
    from hypothesis import event, note
    from hypothesis import strategies as st
except ImportError:
    raise ImportError(
        "sim.strategies needs Hypothesis, and it is not installed here. Install it: pip install 'asgi-sim[hypothesis]'."
    ) from None

from sim.errors import UsageError
from sim.registry import find_scenario, find_subject
from sim.search.drawn import gently
from sim.search.failure import CheckFailed, replay_line
from sim.search.runner import Runner
from sim.show.story import tell
from sim.world.boundary import Boundary
from sim.world.choices import Choices
from sim.world.live import Live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from random import Random

    from hypothesis.strategies import DrawFn, SearchStrategy

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.runner import Run
    from sim.search.schedule import Schedule
    from sim.world.host import Connection
    from sim.world.trace import Trace

__all__ = [
    "Abort",
    "Close",
    "Live",
    "Played",
    "Receive",
    "Script",
    "Send",
    "ShutWrite",
    "Step",
    "runs",
    "schedules",
    "scripts",
    "segmentations",
    "session",
    "tcp_steps",
]

T = TypeVar("T")
MAX_CHOICES = 1_000
"""Choices of one run that are drawn; behind them every pick is 0. Hypothesis takes some thousands in an example."""


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Around a test, as a decorator above `@given` or in a fixture: makes each example some 30 ms cheaper.

    Nothing else changes. It holds the boundary (see `sim.world.boundary`) open from one example to the next.
    """
    with Boundary():
        yield


# Schedules.


class _Deviation:
    """How a pick that is not 0 reads in a failing test; text is made only when it is printed."""

    def __init__(self, number: int, width: int, pick: int, label: object) -> None:
        self.number = number
        self.width = width
        self.pick = pick
        self.label = label

    def __repr__(self) -> str:
        return f"Choice {self.number}: pick {self.pick} of {self.width} ({self.label})"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))


class _Drawn(Choices):
    """Choices that Hypothesis draws when a world asks for them. A failing test notes those that deviate."""

    __slots__ = ("_random",)

    def __init__(self, random: Random, limit: int) -> None:
        super().__init__(decide=gently(self._draw), limit=limit)
        self._random = random

    def _draw(self, width: int, label: object) -> int:
        pick = self._random.randrange(width)
        if pick:
            note(_Deviation(len(self.made) + 1, width, pick, label))
        return pick

    def __repr__(self) -> str:
        return "<schedule>" if not self.made else f"<schedule: {', '.join(str(choice.pick) for choice in self.made)}>"


def schedules(*, max_choices: int = MAX_CHOICES) -> SearchStrategy[Choices]:
    """Where a world's decisions come from: for `World(choices)` and `Live(play, choices)`. One world each.

    Args:
        max_choices: how many are drawn; behind them every pick is 0.

    Returns:
        A strategy for `Choices`. They shrink towards first in, first out, and a failing test prints the others.
    """
    return _made(st.randoms(use_true_random=False, note_method_calls=False), lambda random: _Drawn(random, max_choices))


def _made(values: SearchStrategy[Any], make: Callable[[Any], T]) -> SearchStrategy[T]:
    """As `values.map(make)`; but what a failing test prints is what was made, not how."""

    @st.composite
    def made(draw: DrawFn) -> T:
        return make(draw(values))

    return made()


# Runs.


@attrs.frozen(eq=False, repr=False)
class Played:
    """A run of a scenario that Hypothesis drew.

    Attributes:
        run: the run itself.
        params: the scenario's parameters in it.
        schedule: reproduces it without Hypothesis.
    """

    run: Run
    params: dict[str, Any]
    schedule: Schedule
    _runner: Runner

    @property
    def trace(self) -> Trace:
        """What happened."""
        return self.run.trace

    @property
    def observed(self) -> str | None:
        """What the scenario calls it, or None."""
        return self.run.observed

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the invariants that it breaks."""
        return tuple(invariant.name for invariant, _ in self.run.violations)

    def check(self, *invariants: str) -> None:
        """Nothing if the run breaks no invariant, as in a test.

        Args:
            *invariants: the names of those that count. None: all.

        Raises:
            CheckFailed: it breaks one. An `AssertionError`, with the story and the line that replays it.
            UsageError: the scenario claims no such invariant.
        """
        __tracebackhide__ = True
        scenario = self._runner.scenario
        unknown = sorted({*invariants} - {invariant.name for invariant in scenario.invariants} - {"progress"})
        if unknown:
            raise UsageError(f"scenario {scenario.name!r} claims no {', '.join(unknown)}.")
        for invariant, violation in self.run.violations:
            if not invariants or invariant.name in invariants:
                raise CheckFailed(
                    f"{scenario.name} on {self._runner.subject.requirement} violates {invariant.name}: "
                    f"{violation.message}",
                    str(tell(self.run, invariant.name)),
                    replay_line(scenario, self._runner.subject, self.schedule),
                )

    def __repr__(self) -> str:
        params = "".join(f", {name}={value!r}" for name, value in self.params.items())
        broken = f", breaks {', '.join(self.broken)}" if self.broken else ""
        return (
            f"<run of {self._runner.scenario.name} on {self._runner.subject.requirement}{params}: "
            f"{self.run.deviations} of {len(self.run.choices)} choices deviate, {len(self.trace)} events{broken}>"
        )

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """For Hypothesis and IPython, which would else look into it."""
        printer.text(repr(self))


def runs(
    scenario: Scenario | str,
    *,
    server: Subject | str,
    params: Mapping[str, Any] | None = None,
    granularity: str | None = None,
    horizon: float | None = None,
    max_choices: int = MAX_CHOICES,
) -> SearchStrategy[Played]:
    """Runs of a scenario: parameters and schedule are drawn, and shrink together.

    Statistics (`pytest --hypothesis-show-statistics`) count what the scenario calls its runs, and what they break.

    Args:
        scenario: a `Scenario`, its name, or `module:attribute`.
        server: a `Subject`, or a requirement.
        params: the scenario's parameters; each a value, or a strategy for values.
        granularity: "turn" or "iteration". None: as the scenario says.
        horizon: bound on the virtual seconds of a run. None: as the scenario says.
        max_choices: how many choices of a run are drawn; behind them every pick is 0.

    Returns:
        A strategy for `Played`.

    Raises:
        UsageError: an unknown name, a parameter that the scenario does not have.
    """
    found = find_scenario(scenario) if isinstance(scenario, str) else scenario
    subject = find_subject(server) if isinstance(server, str) else server
    given = dict(params or {})
    defaults = found.arguments()
    drawn_names = {name for name, value in given.items() if isinstance(value, st.SearchStrategy)}
    found.arguments({name: defaults.get(name) if name in drawn_names else value for name, value in given.items()})

    @st.composite
    def played(draw: DrawFn) -> Played:
        drawn = {n: draw(v) if isinstance(v, st.SearchStrategy) else v for n, v in given.items()}
        runner = Runner(found, subject, params=drawn, granularity=granularity, horizon=horizon)
        with session():
            decide = gently(lambda width, _label: draw(st.integers(0, width - 1)))
            run = runner.run((), decide=decide, limit=max_choices)
        result = Played(run, drawn, runner.schedule(run), runner)
        if run.observed is not None:
            event(run.observed)
        for name in result.broken:
            event(f"breaks {name}")
        return result

    return played()


# What clients do.


def segmentations(data: bytes, *, max_pieces: int | None = None) -> SearchStrategy[tuple[bytes, ...]]:
    """Ways to cut `data` into pieces, none of them empty; they shrink towards one piece, and later cuts to earlier.

    Args:
        data: what the pieces come to.
        max_pieces: how many there are at the most. None: as many as bytes.
    """
    if max_pieces is not None and max_pieces < 1:
        raise UsageError(f"max_pieces={max_pieces!r} is not above 0.")
    if len(data) < 2 or max_pieces == 1:
        return st.just((data,) if data else ())
    most = None if max_pieces is None else max_pieces - 1
    cuts = st.lists(st.integers(1, len(data) - 1), unique=True, max_size=most)

    def cut(places: list[int]) -> tuple[bytes, ...]:
        ends = [0, *sorted(places), len(data)]
        return tuple(data[begin:end] for begin, end in itertools.pairwise(ends))

    return _made(cuts, cut)


class Step(Protocol):
    """One thing that a client does. Any coroutine function of one argument will do; a `repr` is for people."""

    async def __call__(self, client: Any, /) -> object:
        """Do it."""
        ...


@attrs.frozen
class Send:
    """Send pieces, each in a segment of its own."""

    pieces: tuple[bytes, ...]

    async def __call__(self, client: Connection, /) -> None:
        for piece in self.pieces:
            client.send(piece)


@attrs.frozen
class Receive:
    """Wait for bytes, at most so many virtual seconds."""

    within: float = 1.0

    async def __call__(self, client: Connection, /) -> None:
        await client.receive(within=self.within)


@attrs.frozen
class ShutWrite:
    """Say that nothing more will be sent (FIN)."""

    async def __call__(self, client: Connection, /) -> None:
        client.shut_write()


@attrs.frozen
class Close:
    """Close both directions."""

    async def __call__(self, client: Connection, /) -> None:
        client.close()


@attrs.frozen
class Abort:
    """Reset the connection."""

    async def __call__(self, client: Connection, /) -> None:
        client.abort()


def tcp_steps(payloads: SearchStrategy[bytes] | None = None) -> SearchStrategy[Step]:
    """What a client can do to a TCP connection: send, in any segmentation; wait; close in one of three ways.

    Args:
        payloads: what it may send. None: any bytes.
    """
    data = payloads if payloads is not None else st.binary(min_size=1, max_size=16)
    sends = data.flatmap(lambda payload: _made(segmentations(payload, max_pieces=4), Send))
    return st.one_of(sends, st.sampled_from([Receive(0.1), Receive(1.0), ShutWrite(), Close(), Abort()]))


@attrs.frozen
class Script:
    """What a client does, step by step."""

    steps: tuple[Step, ...]

    async def play(self, client: Any) -> int:
        """Do each step with `client`, until one finds the connection gone. Returns how many were done."""
        for number, step in enumerate(self.steps):
            try:
                await step(client)
            except OSError:
                return number
        return len(self.steps)


def scripts(
    steps: SearchStrategy[Any] | None = None, *, min_size: int = 0, max_size: int = 8
) -> SearchStrategy[Script]:
    """Scripts for a client; they shrink towards fewer and simpler steps.

    Args:
        steps: what each step can be: anything that can be awaited with the client. None: `tcp_steps()`.
        min_size: the least number of steps.
        max_size: the greatest.
    """
    one = steps if steps is not None else tcp_steps()
    return _made(st.lists(one, min_size=min_size, max_size=max_size), lambda chosen: Script(tuple(chosen)))
