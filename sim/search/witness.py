"""Whether a search goes on as what it was: a few runs that it has made come again, or it says why not.

Theory of operation
===================

What a search knows (fingerprints of states, digests of outcomes, schedules that need not be run) it goes by later, perhaps
in another process. It is worth something there only if a schedule gives the same run there. Two things prevent that:
something was changed (the application, a library), or the code under test depends on what differs from process to process,
such as the seed of Python's hashes. Neither shows by itself: states that are written otherwise are new states, and the
counts are wrong.

So with what was found go some *witnesses*: schedules that were run, each with digests of what its run shows. Whoever goes
on runs them first. If one comes otherwise, processes with known seeds are asked why (`sim.search.seeds`).

Rules for this file:

1. A witness shows all that a search keeps of a run: what there was to choose from, events, outcome, judgement; and, if states
   are told apart, all that it passes. It is run from one end to the other, also where the search knew the end.
2. A state that has another fingerprint each time within one process (it cannot be seen into) says nothing and is left out.
3. The first run in a process may differ from all others (a cache that it fills), so only a second refusal counts.
4. Witnesses are few, and spread over the search: the first run, the second, the fourth, and so on; of a search in units,
   the last of each. Where they become too many, the earlier ones are thinned out. The runs that are kept as discoveries
   are witnesses, too.

They are samples. What differs from process to process in none of them is not seen here.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from sim.errors import Divergence, SimError, UsageError
from sim.registry import name_of
from sim.search import there
from sim.search.divergence import digest, disturb
from sim.search.lines import Lines, Recording
from sim.search.part import digest as digest_of_outcome
from sim.search.seeds import SEED, SEEDS, Answers, under_seeds
from sim.search.states import knowledge_of
from sim.world.fingerprint import Fingerprinter
from sim.world.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sim.search.part import Best, Part
    from sim.search.question import Question
    from sim.search.runner import Run, Runner
    from sim.world.world import World

MOST = 8
"""Witnesses of one search, at the most."""
FEW = 2
"""Of these go with each unit of work."""
WORDS = {
    "choices": "what there was to choose from",
    "events": "its events",
    "outcome": "its outcome",
    "judgement": "what is said of it",
    "states": "the states that it passes",
}
"""What a witness shows."""
Testimony: TypeAlias = "tuple[dict[str, str], Recording]"
"""What a witness shows somewhere, and its run line by line."""


@attrs.frozen
class Witness:
    """A run that was made.

    Attributes:
        picks: its schedule.
        shows: digests of what it shows, by the names of `WORDS`.
        ordered: whether its states tell the order of timers that are due at one moment.
        unlike: the numbers of the states that rule 2 leaves out.
        seed: PYTHONHASHSEED of the process that made it; None: a seed of its own.
    """

    picks: tuple[int, ...]
    shows: tuple[tuple[str, str], ...]
    ordered: bool = False
    unlike: tuple[int, ...] = ()
    seed: str | None = None

    def to_json(self) -> list[Any]:
        """It as JSON types."""
        return [list(self.picks), [list(pair) for pair in self.shows], self.ordered, list(self.unlike), self.seed]

    @classmethod
    def from_json(cls, record: Any) -> Witness:
        """What `to_json` made a record of."""
        picks, shows, ordered, unlike, seed = record
        pairs = tuple((str(name), str(shown)) for name, shown in shows)
        return cls(tuple(picks), pairs, bool(ordered), tuple(unlike), seed)

    @classmethod
    def of(cls, run: Run) -> Witness:
        """A whole run of a search that does not tell states apart."""
        return cls(run.picks, tuple(_shown(run).items()), seed=_seed())


class Witnesses:
    """The witnesses of one search, the first first; where they become too many, the earlier ones are thinned out."""

    def __init__(self, witnesses: Iterable[Witness] = ()) -> None:
        self._kept: list[Witness] = []
        for witness in witnesses:
            self.add(witness)

    def __iter__(self) -> Iterator[Witness]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, witness: Witness) -> None:
        """One more."""
        if len(self._kept) == MOST:
            del self._kept[1::2]
        self._kept.append(witness)

    @property
    def few(self) -> tuple[Witness, ...]:
        """Some that stay the same for long."""
        return tuple(self._kept[:FEW])


class Court:
    """Makes witnesses of one search, and hears them again; inside the runner's session.

    Args:
        runner: who runs.
        question: what the search is.
    """

    def __init__(self, runner: Runner, question: Question) -> None:
        self._runner = runner
        self._question = question
        self._fingerprinter: Fingerprinter | None = None
        if "states" in question.reduce:
            self._fingerprinter = Fingerprinter(
                past=runner.scenario.past, knowledge=knowledge_of(runner.subject), symmetry=question.symmetry
            )

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """The runner's."""
        with self._runner.session(), Watchdog():
            yield

    def witness(self, picks: tuple[int, ...], *, ordered: bool = False) -> Witness:
        """Run a schedule to have a witness.

        Args:
            picks: the schedule.
            ordered: whether the search's states tell the order of timers that are due at one moment.
        """
        run, keys = self._run(picks, ordered=ordered)
        shows = _shown(run)
        unlike: tuple[int, ...] = ()
        if self._fingerprinter is not None:
            held = disturb(len(picks))
            _, again = self._run(picks, ordered=ordered)
            del held
            unlike = tuple(n for n, (one, two) in enumerate(zip(keys, again, strict=False)) if one != two)
            shows["states"] = _of_states(keys, unlike)
        return Witness(run.picks, tuple(shows.items()), ordered, unlike, _seed())

    def hear(self, witnesses: Iterable[Witness], file: str | None) -> SimError | None:
        """Run witnesses again.

        Args:
            witnesses: of this search, made somewhere.
            file: the checkpoint that they were read from. None: another worker made them.

        Returns:
            The error if one shows something else: a `Divergence` if that depends on the seed of Python's hashes, else a
            `UsageError`, for something was changed. To be raised outside the session, which would look for a line itself.
        """
        for witness in witnesses:
            if self.differs(witness) is not None and (what := self.differs(witness)) is not None:
                return self._refusal(witness, what, file)
        return None

    def differs(self, witness: Witness) -> str | None:
        """What a witness shows otherwise when it is run here: a name of `WORDS`; None: nothing."""
        now = self.shows(witness)
        return next((name for name, shown in witness.shows if now.get(name) != shown), None)

    def shows(self, witness: Witness) -> dict[str, str]:
        """What a witness shows here; nothing if its schedule is none here."""
        try:
            run, keys = self._run(witness.picks, ordered=witness.ordered)
        except Divergence:
            return {}
        shows = _shown(run)
        if self._fingerprinter is not None:
            shows["states"] = _of_states(keys, witness.unlike)
        return shows

    def _run(self, picks: Sequence[int], *, ordered: bool) -> tuple[Run, list[bytes]]:
        """A whole run, and the fingerprints of the states that it passes, if they are told apart."""
        keys: list[bytes] = []
        fingerprinter = self._fingerprinter
        limit = self._question.max_choices
        if fingerprinter is None:
            return self._runner.run(picks, limit=limit), keys
        fingerprinter.forget()
        fingerprinter.ordered = ordered

        def look(world: World) -> bool:
            keys.append(fingerprinter.of(world))
            return False

        run = self._runner.run(picks, limit=limit, lookout=look)
        fingerprinter.forget()
        return run, keys

    def _refusal(self, witness: Witness, what: str, file: str | None) -> SimError:
        """The error for a witness that comes otherwise here."""
        whose = f"--checkpoint {file}: a run that it holds" if file is not None else "a run that another worker made"
        said = f"{whose} comes otherwise here; what differs is {WORDS[what]}."
        answers = self._ask(witness)
        if answers is not None and (answers.differ or answers.first != self._part_of(witness)):
            seeds = f"under {SEED}={' and '.join(answers.differ)}" if answers.differ else "from process to process"
            if file is None:
                advice = f"Set {SEED}=0 for all processes of the search."
            elif witness.seed is None:
                advice = f"Delete the file, and begin anew with {SEED}=0 for this and whatever resumes it."
            else:
                advice = f"It was begun with {SEED}={witness.seed}: set that to go on with it. Or delete the file to begin anew."
            return Divergence(
                f"{said} It depends on the seed of Python's hashes, and differs {seeds}.{answers.line} {advice}"
            )
        hardly = (
            f" (hardly the seed of Python's hashes: {SEED}={', '.join(SEEDS)} give what is here)" if answers else ""
        )
        if file is None:
            return UsageError(
                f"{said} The likeliest cause: workers do not have the same code{hardly}. Give all of them the same "
                "files. With workers=1 everything is done in one process."
            )
        return UsageError(
            f"{said} The likeliest cause: the application, the server or a library was changed since then{hardly}. Ask "
            "with what there was then, give another name, or delete the file to begin anew."
        )

    def _part_of(self, witness: Witness) -> dict[str, str]:
        """What is shown here of what a witness shows."""
        now = self.shows(witness)
        return {name: now.get(name, "") for name, _ in witness.shows}

    def testimony(self, witness: Witness) -> Testimony:
        """What a witness shows here (rule 3), and its run line by line."""
        self.shows(witness)
        shows = self._part_of(witness)
        with contextlib.suppress(SimError), Lines() as lines:
            self._runner.run(witness.picks, limit=self._question.max_choices)
        return shows, lines.recording()

    def _ask(self, witness: Witness) -> Answers | None:
        """What processes with known seeds make of a witness; None: they cannot be asked."""
        name = name_of(self._runner.scenario)
        if name is None:
            return None
        seeds = dict.fromkeys(SEEDS if witness.seed is None else (witness.seed, *SEEDS))
        job = partial(there.hear, witness, name, self._question.settings)
        try:
            return under_seeds(job, self._runner.subject.requirement, tuple(seeds))
        except SimError:
            return None


def discoveries(part: Part) -> list[Witness]:
    """The runs that a search has kept, as witnesses (rule 4)."""
    kept: list[Best] = [*part.found.values(), *part.observed.values()]
    by_picks = {best.picks: best.digest for best in kept if best.digest is not None}
    return [Witness(picks, (("events", str(events)),)) for picks, events in by_picks.items()][:MOST]


def _shown(run: Run) -> dict[str, str]:
    said = sorted(invariant.name for invariant, _ in run.violations), run.observed, run.cut
    return {
        "choices": _crc([choice.width for choice in run.choices]),
        "events": str(digest(run.trace)),
        "outcome": digest_of_outcome(run.trace.outcome()).hex(),
        "judgement": _crc(said),
    }


def _of_states(keys: Sequence[bytes], unlike: Sequence[int]) -> str:
    return _crc([key for number, key in enumerate(keys) if number not in unlike])


def _crc(value: object) -> str:
    return str(zlib.crc32(repr(value).encode()))


def _seed() -> str | None:
    """The seed of Python's hashes that this process was given, if it was."""
    seed = os.environ.get(SEED, "random")
    return seed if seed != "random" else None
