"""The far side of `sim.search.elsewhere`: a process in another environment that does jobs until nobody asks any more."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import threading
import traceback
from importlib import metadata
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from sim.check.invariants import PROGRESS, Violation
from sim.errors import SimError
from sim.registry import find_subject
from sim.search.schedule import python_version
from sim.world.clock import Clock
from sim.world.trace import Trace, jsonable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sim.check.invariants import Invariant
    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.lines import Recording
    from sim.search.report import Report
    from sim.search.runner import Run
    from sim.search.schedule import Schedule
    from sim.search.unit import Bench, Done, Unit
    from sim.search.witness import Testimony, Witness
    from sim.world.choices import Choice
    from sim.world.trace import Event


class Opening(NamedTuple):
    """What the process is told first; then come jobs.

    A job is called with the subject and with whom to tell of progress; what it returns is the answer.

    Attributes:
        server: the subject's requirement.
        beside: distributions whose versions matter, too.
        path: where modules are looked for, behind all others.
    """

    server: str
    beside: tuple[str, ...]
    path: tuple[str, ...]


@attrs.frozen
class Beside:
    """A subject, under the name that was asked for, with what was asked for beside it."""

    subject: Subject
    requirement: str
    beside: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The subject's."""
        return self.subject.kind

    @property
    def versions(self) -> dict[str, str]:
        """The subject's, and those of what is beside it."""
        return {**self.subject.versions, **{name: metadata.version(name) for name in self.beside}}

    def serve(self, world: Any, application: Any, **options: Any) -> Any:
        """The subject's."""
        return self.subject.serve(world, application, **options)

    def __getattr__(self, name: str) -> Any:
        """What else a scenario asks its subject."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.subject, name)


@attrs.frozen
class PackedRun:
    """A run as plain data: choices without what they chose among, invariants by name, events by number."""

    choices: list[Choice]
    events: list[Event]
    violations: list[tuple[str, str, int | None]]
    observed: str | None
    cut: str | None
    notes: dict[str, Any]

    @classmethod
    def of(cls, run: Run) -> PackedRun:
        """Pack a run; what does not pickle is told in words."""
        return cls(
            [attrs.evolve(choice, label=str(choice.label)) for choice in run.choices],
            [_portable(event) for event in run.trace],
            [(i.name, v.message, v.event.seq if v.event is not None else None) for i, v in run.violations],
            run.observed,
            run.cut,
            {name: note for name, note in run.notes.items() if _pickles(note)},
        )

    def unpack(self, scenario: Scenario) -> Run:
        """The run, of this very scenario."""
        from sim.search.runner import Run

        events = self.events
        trace = Trace(Clock(events[-1].time if events else 0.0))
        trace.events = events
        trace.open = False
        violations: list[tuple[Invariant, Violation]] = []
        for name, message, seq in self.violations:
            invariant = next((i for i in scenario.invariants if i.name == name), PROGRESS)
            violations.append((invariant, Violation(message, next((e for e in events if e.seq == seq), None))))
        return Run(self.choices, trace, violations, self.observed, self.cut, self.notes)


def explore(
    scenario: str,
    settings: dict[str, Any],
    keeping: tuple[Any, str] | None,
    subject: Subject,
    tell: Callable[[Any], None],
) -> Report:
    """A job: a whole search. It tells of its progress and, if it is to be kept, of each of its snapshots."""
    from sim.registry import find_scenario
    from sim.search.explore import in_one_go
    from sim.search.kept import Kept
    from sim.search.question import Question
    from sim.search.unit import strip

    kept = Kept(keeping[0], tell, keeping[1]) if keeping is not None else None
    found = find_scenario(scenario)
    return strip(in_one_go(found, subject, Question(**settings), on_progress=tell, kept=kept))


def replay(schedule: Schedule, subject: Subject, _tell: object) -> PackedRun:
    """A job: run one schedule again."""
    from sim.search.explore import replay as run_again

    _, run = run_again(schedule, server=subject)
    return PackedRun.of(run)


def walk(schedule: Schedule, subject: Subject, _tell: object) -> tuple[int, Recording]:
    """A job: run one schedule again, line by line. The answer is the digest of the run, and its lines."""
    from sim.registry import find_scenario
    from sim.search.divergence import digest
    from sim.search.lines import Lines
    from sim.search.runner import Runner

    runner = Runner.of(find_scenario(schedule.scenario), subject, schedule)
    with runner.session(), Lines() as lines:
        run = runner.run(schedule.picks)
    return digest(run.trace), lines.recording()


def versions(subject: Subject, _tell: object) -> dict[str, str]:
    """A job: of Python and of what the subject's behaviour depends on."""
    return {"python": python_version(), **subject.versions}


def do(unit: Unit, subject: Subject, _tell: object) -> Done:
    """A job: a unit of a search, whose session stays open for the next."""
    global _bench  # noqa: PLW0603 - one process, one bench
    from sim.search.unit import Bench

    if _bench is None:
        _bench = Bench(unit.runner(subject))
    return _bench.do(unit)


def hear(witness: Witness, scenario: str, settings: dict[str, Any], subject: Subject, _tell: object) -> Testimony:
    """A job: run a witness of a search again. The answer is what it shows, and its lines."""
    from sim.registry import find_scenario
    from sim.search.question import Question
    from sim.search.witness import Court

    question = Question(**settings)
    runner = question.runner(find_scenario(scenario), subject)
    court = Court(runner, question)
    with court.session():
        return court.testimony(witness)


_bench: Bench | None = None
_began: Sequence[str] | None = None
"""The command line that began this process, if it does jobs."""
BEGIN = "import sys; from sim.search.there import serve; serve(int(sys.argv[1]), int(sys.argv[2]))"


def command() -> Sequence[str]:
    """The command line of a process that does jobs in this very environment; two file descriptors are to be added."""
    return _began or (sys.executable, "-c", BEGIN)


def serve(inbox: int, outbox: int) -> None:
    """Do what comes from one file descriptor, answer to the other, and end when the first is closed."""
    global _began  # noqa: PLW0603 - one process, one command line
    _began = (sys.executable, *sys.orig_argv[1:-2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = Connection(inbox, writable=False), Connection(outbox, readable=False)
    opening: Opening = requests.recv()
    threading.Thread(target=_live_with, args=(inbox,), daemon=True).start()
    sys.path += [place for place in opening.path if place not in sys.path]
    subject: Subject | None = None
    with contextlib.suppress(EOFError):
        while True:
            job = requests.recv_bytes()
            try:
                if subject is None:
                    subject = Beside(find_subject(opening.server), opening.server, opening.beside)
                answer = ("answer", pickle.loads(job)(subject, lambda progress: answers.send(("progress", progress))))
            except SimError as exc:
                answer = ("error", exc)
            except Exception as exc:
                where = traceback.extract_tb(exc.__traceback__)[-1]
                answer = ("error", SimError(f"{type(exc).__name__}: {exc} (at {where.filename}:{where.lineno})"))
            answers.send(answer)
    if _bench is not None:
        _bench.close()


def _live_with(inbox: int) -> None:
    """Wait for the end of the process that asks, and end at once."""
    poll = select.poll()
    poll.register(inbox, 0)
    poll.poll()
    os._exit(1)


def _portable(event: Event) -> Event:
    """The event, or one like it with JSON types in the place of fields that do not pickle."""
    if _pickles(event):
        return event
    told: dict[str, Any] = {name: jsonable(v) for name, v in event.fields().items() if not _pickles(v)}
    return attrs.evolve(event, **told)


def _pickles(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True
