"""Whether a run depends on the seed of Python's hashes, which differs from process to process.

Within one process a set of texts has one order, so no search sees that a program depends on it. A schedule carries a
digest of the run that it gave, and a checkpoint carries some (`sim.search.witness`); another process, with another seed,
sees that it gives another run. That has one of two reasons: something was changed since, which is legitimate, or the
order of a set. Which one, processes of our own tell: they run the schedule with seeds that are known.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sim.errors import Divergence, SimError
from sim.registry import name_of
from sim.search import there
from sim.search.culprit import compare
from sim.search.elsewhere import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.lines import Recording
    from sim.search.schedule import Schedule

SEED = "PYTHONHASHSEED"
SEEDS = ("1", "2", "3")
"""Those that are tried."""
CHANGED = (
    "note: this is not the run that was recorded with the schedule. The application, the scenario or asgi-sim itself has "
    "changed since."
)


class Answers(NamedTuple):
    """What processes with known seeds of Python's hashes have answered.

    Attributes:
        first: the first one's answer.
        differ: the seeds of two whose answers differ; None: all are the same.
        line: which line of the program did that, in words, with a space before them; "" if none could be named.
    """

    first: Any
    differ: tuple[str, str] | None
    line: str = ""


def under_seeds(
    job: Callable[[Subject, Any], tuple[Any, Recording]], server: str, seeds: Sequence[str] = SEEDS
) -> Answers:
    """Have a job done by processes with known seeds of Python's hashes, until two answers differ.

    Args:
        job: returns what it has seen of a run, and the run line by line.
        server: the requirement of the subject that it gets.
        seeds: the seeds, at least one.

    Raises:
        SimError: a process could not do it.
    """
    answers: list[tuple[Any, Recording]] = []
    for seed in seeds:
        with Session(there.command(), server, environment={SEED: seed}) as session:
            answers.append(session.ask(job))
        (first, lines), (last, others) = answers[0], answers[-1]
        if first != last:
            said = compare(lines, others)
            return Answers(first, (seeds[0], seed), f" {said}" if said is not None else "")
    return Answers(answers[0][0], None)


def another_run(scenario: Scenario, schedule: Schedule, say: Callable[[str], None] | None) -> None:
    """Find out why a schedule gave another run than when it was recorded.

    Args:
        scenario: the schedule's.
        schedule: the schedule.
        say: told if something was changed.

    Raises:
        Divergence: it depends on the seed of Python's hashes; the line of the program is named.
    """
    if name_of(scenario) is not None:
        answers = None
        with contextlib.suppress(SimError):  # the run is broken off, as it is here: that is said elsewhere
            answers = under_seeds(partial(there.walk, schedule), schedule.server)
        if answers is not None and answers.differ is not None:
            raise Divergence(
                "the schedule gives another run than when it was recorded: it depends on the seed of Python's hashes, "
                f"and differs under {SEED}={' and '.join(answers.differ)}.{answers.line}"
            )
    if say is not None:
        say(CHANGED)
