"""A subject whose versions are not the ones installed here: the search runs in an environment made for it.

Theory of operation
===================

An `Elsewhere` stands for a subject in another environment. Whatever has to run it (a search, a replay, a state graph)
is a *job*, a function of ours that gets the subject itself. The job is done by a process of that environment
(`sim.search.there`): nothing goes to and fro but the job, its progress, and its answer. So it runs at full
speed, and it is the same code: the environment is lent ours, it does not install it.

Rules for this file:

1. An answer is the same whoever gave it. A schedule that was found there carries the versions that it was found with,
   also of what the user asked for beside the server, and replays there.
2. The process never outlives this one, and this one never waits for it in vain: it ends when the pipe to it is closed,
   and its end closes the pipe from it.
3. It prints nothing. What the code under test prints goes to standard error.

How environments are made is not known here; the registry knows who makes them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import sysconfig
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from sim.errors import NotInstalled, SimError, UsageError
from sim.registry import find_prepare, find_subject, name_of
from sim.search import there
from sim.search.schedule import python_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.explore import Progress
    from sim.search.kept import Kept
    from sim.search.report import Report
    from sim.search.runner import Run
    from sim.search.schedule import Schedule

T = TypeVar("T")
LAST_SECONDS = 5.0
"""Real seconds that the process is given to end by itself."""


@attrs.frozen
class Elsewhere:
    """A subject in an environment of its own. It pickles.

    Attributes:
        requirement: the subject's name.
        kind: "real" or "model".
        also: requirements of what is installed beside it.
        python: the interpreter: None for this one, a version such as "3.10", or a path.
        versions: the versions that it must have, Python's too, if a schedule says so; else empty.
    """

    requirement: str
    kind: str
    also: tuple[str, ...] = ()
    python: str | None = None
    versions: dict[str, str] = attrs.field(factory=dict)

    def serve(self, world: Any, application: Any, **options: Any) -> Any:  # noqa: ARG002
        """It cannot be served here.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self.requirement} runs in an environment of its own, so no world of this process has it.")

    def prepare(self, say: Callable[[str], None] | None = None) -> Any:
        """Make the environment, if it is not there yet. Returns the place to do a job in.

        Args:
            say: told what is going on, when it takes long.

        Raises:
            UsageError: the environment cannot be made; with the installer's own reason.
        """
        return find_prepare()(
            self.requirement,
            model=self.kind == "model",
            also=self.also,
            python=self.python,
            versions=_without_python(self.versions),
            say=say,
        )

    def explore(
        self,
        scenario: Scenario,
        settings: dict[str, Any],
        tell: Callable[[Progress], None] | None,
        kept: Kept | None = None,
    ) -> Report:
        """As `sim.search.explore.in_one_go`, there. Its snapshots are kept here."""
        name = self._named(scenario)

        def hear(told: Any) -> None:
            if kept is not None and isinstance(told, dict):
                kept.keep(told)
            elif tell is not None:
                tell(told)

        keeping = (kept.snapshot, kept.file) if kept is not None else None
        job = partial(there.explore, name, settings, keeping)
        return attrs.evolve(self.do(job, hear), subject=self)

    def replay(self, scenario: Scenario, schedule: Schedule) -> Run:
        """As `sim.search.explore.replay`, there."""
        self._named(scenario)
        return self.do(partial(there.replay, schedule)).unpack(scenario)

    def do(self, job: Callable[[Subject, Any], T], tell: Callable[[Progress], None] | None = None) -> T:
        """Have a job done there.

        Args:
            job: called there with the subject and with whom to tell of progress; it and its answer pickle.
            tell: told of progress here.

        Raises:
            SimError: the job's own, or that the process ended without an answer.
        """
        with self.session() as session:
            return session.ask(job, tell)

    def session(self) -> Session:
        """A process there that does jobs, one after the other; close it.

        Raises:
            UsageError: the environment cannot be made.
        """
        place = self.prepare()
        beside = [Requirement(text).name for text in self.also] or list(_without_python(self.versions))
        return Session(
            place.command,
            self.requirement,
            beside=tuple(map(canonicalize_name, beside)),
            where=f" in {place.environment.directory}",
        )

    def _named(self, scenario: Scenario) -> str:
        name = name_of(scenario)
        if name is None:
            raise UsageError(
                f"{self.requirement} runs in an environment of its own, where the scenario {scenario.name!r} has to be "
                "found by a name. Put it into a module, and name it module:attribute."
            )
        return name


class Session:
    """A process that does jobs on a subject, one after the other. A context manager.

    Args:
        command: its command line, to which two file descriptors are added.
        requirement: the subject's.
        beside: distributions whose versions matter, too.
        environment: variables to set there, besides those here.
        where: for messages: the environment that it runs in, if it is another one.
    """

    def __init__(
        self,
        command: Sequence[str],
        requirement: str,
        *,
        beside: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        where: str = "",
    ) -> None:
        self._requirement = requirement
        self._where = where
        with contextlib.ExitStack() as stack:
            self._to, theirs_in = _pipe(stack)
            theirs_out, self._back = _pipe(stack)
            self._process = subprocess.Popen(
                [*command, str(theirs_in.fileno()), str(theirs_out.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=(theirs_in.fileno(), theirs_out.fileno()),
                env={**os.environ, **(environment or {})},
            )
            theirs_in.close()
            theirs_out.close()
            self._stack = stack.pop_all()
        with self._noticed():
            self._to.send(there.Opening(requirement, beside, _importable()))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def ask(self, job: Callable[[Subject, Any], T], tell: Callable[[Progress], None] | None = None) -> T:
        """Have a job done.

        Args:
            job: called there with the subject and with whom to tell of progress; it and its answer pickle.
            tell: told of progress here.

        Raises:
            SimError: the job's own, or that the process ended without an answer.
        """
        with self._noticed():
            self._to.send(job)
            while True:
                kind, value = self._back.recv()
                if kind == "progress":
                    if tell is not None:
                        tell(value)
                elif kind == "error":
                    raise value
                else:
                    answer: T = value
                    return answer
        raise AssertionError

    def close(self) -> None:
        """Have the process end, and wait for it."""
        self._to.close()
        _end(self._process)
        self._stack.close()

    @contextlib.contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as exc:
            self.close()
            advice = " If the environment is damaged, delete that directory: it is made anew." if self._where else ""
            raise SimError(
                f"the process that ran {self._requirement}{self._where} ended with status {self._process.returncode} "
                f"and gave no answer. What it printed stands above.{advice}"
            ) from exc


def find_anywhere(requirement: str, *, also: Sequence[str] = (), python: str | None = None) -> Subject:
    """The subject that a requirement names: the one here, or one elsewhere.

    Args:
        requirement: a name with extras and version.
        also: requirements of what is to be beside it; with any, it is elsewhere.
        python: an interpreter, likewise.

    Raises:
        UsageError: no such subject, or no such combination.
    """
    for text in also:
        try:
            Requirement(text)
        except InvalidRequirement as exc:
            raise UsageError(
                f"{text!r} is no requirement: {str(exc).splitlines()[0]}. Write it as pip takes it: starlette==0.38.2"
            ) from None
    kind = "real"
    try:
        subject = find_subject(requirement)
    except NotInstalled:
        pass
    else:
        if not also and python is None:
            return subject
        kind = subject.kind
    return Elsewhere(str(Requirement(requirement)), kind, tuple(also), python)


def find_here(requirement: str) -> Subject:
    """The subject that a requirement names, in whatever version is installed here.

    Raises:
        UsageError: no such subject, or no such combination.
    """
    try:
        return find_subject(requirement)
    except NotInstalled:
        parsed = Requirement(requirement)
        parsed.specifier = SpecifierSet()
        return find_subject(str(parsed))


def recorded_with(requirement: str, versions: Mapping[str, str]) -> Elsewhere:
    """The subject with the versions that a schedule was recorded with.

    Raises:
        UsageError: no such subject.
    """
    kind = getattr(find_anywhere(requirement), "kind", "real")
    return Elsewhere(requirement, kind, (), versions.get("python", python_version()), dict(versions))


def _without_python(versions: Mapping[str, str]) -> dict[str, str]:
    return {name: version for name, version in versions.items() if name != "python"}


def _importable() -> tuple[str, ...]:
    """Where this process imports from, without what is installed: user's modules, for scenarios and applications."""
    installed = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
    ours = Path(__file__).resolve().parent.parent.parent
    found: list[str] = []
    for place in (os.getcwd(), *sys.path):
        path = Path(place or ".").resolve()
        inside = any(path.is_relative_to(root) for root in installed)
        if path.is_dir() and path != ours and not inside and str(path) not in found:
            found.append(str(path))
    return tuple(found)


def _pipe(stack: contextlib.ExitStack) -> tuple[Connection, Connection]:
    """The writing and the reading end of a pipe, closed with `stack`."""
    reading, writing = os.pipe()
    ends = Connection(writing, readable=False), Connection(reading, writable=False)
    for end in ends:
        stack.callback(_close, end)
    return ends


def _close(end: Connection) -> None:
    if not end.closed:
        end.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """See to it that the process has ended."""
    try:
        process.wait(LAST_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
