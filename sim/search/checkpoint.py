"""A search on disk: a file of JSON lines that grows by one line for each unit that is done.

Theory of operation
===================

The first line says which search it is. Each line behind it says which pieces a unit explored, what it found and what
it left. A unit is written, and is on the disk, before anything that it left is given out. So at any moment the lines
tell how far the search is: begin with the whole as the only piece, and let each line take its pieces away and put what
it left in their place. What was being done when the process was killed is in no line, and is done again.

Rules for this file:

1. The file is only appended to. A process that is killed while it writes leaves a torn last line, without an end of
   line; it is cut off by whoever resumes. Any other damage is an error.
2. A search is resumed only by its own question: the same scenario, its file unchanged, the same servers, settings and
   versions. Bounds on runs and on time may differ: they say when it stops, and nothing else.
3. One process at a time: the file is locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import inspect
import json
import os
from typing import TYPE_CHECKING, Any

from sim.errors import UsageError
from sim.search.part import Part
from sim.search.question import ONLY_WHEN_TO_STOP
from sim.search.unit import Done

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from sim.check.scenario import Scenario
    from sim.search.frontier import Piece
    from sim.search.question import Question
    from sim.search.spread import Search

FORMAT = 1


def identity(scenario: Scenario, name: str, question: Question, searches: Sequence[Search]) -> dict[str, Any]:
    """What makes a search this very search, as JSON types."""
    settings = {n: v for n, v in question.settings.items() if n not in ONLY_WHEN_TO_STOP}
    settings["params"] = {n: repr(v) for n, v in scenario.arguments(question.params).items()}
    return {
        "checkpoint": FORMAT,
        "asgi-sim": _own_version(),
        "scenario": name,
        "source": _source(scenario),
        "settings": settings,
        "servers": {search.server: search.runner.versions() for search in searches},
    }


def _own_version() -> str:
    try:
        return importlib.metadata.version("asgi-sim")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _source(scenario: Scenario) -> str | None:
    """A digest of the file that the scenario is written in."""
    try:
        path = inspect.getsourcefile(inspect.unwrap(scenario.play))
    except TypeError:
        return None
    if path is None or not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]


class Checkpoint:
    """An open checkpoint file; see `opened`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def resume(self, asked: dict[str, Any], searches: Sequence[Search]) -> int:
        """Bring searches to where the file says that they were. Returns how many units were done.

        Args:
            asked: the `identity` of what is asked now.
            searches: which have not begun.

        Raises:
            UsageError: it is the checkpoint of another search, or is damaged.
        """
        whole = 0
        units = 0
        by_server = {search.server: search for search in searches}
        with open(self._descriptor, "rb", closefd=False) as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    record = json.loads(line)
                    if number == 1:
                        self._compare(record, asked)
                    else:
                        search = by_server[record["server"]]
                        search.resume(*_read(record, search.cut.read))
                        units += 1
                except (ValueError, KeyError, TypeError, IndexError) as exc:
                    raise UsageError(
                        f"--checkpoint {self._path}: line {number} is not what a search writes ({type(exc).__name__}). "
                        "The file is damaged, or is no checkpoint. Give another name, or delete it to begin anew."
                    ) from None
                whole += len(line)
        os.ftruncate(self._descriptor, whole)
        if whole == 0:
            self._append(asked)
            self._fsync_directory()
        return units

    def _compare(self, had: Any, asked: dict[str, Any]) -> None:
        if not isinstance(had, dict) or "checkpoint" not in had:
            raise ValueError
        for name, value in json.loads(json.dumps(asked)).items():
            if had.get(name) != value:
                raise UsageError(
                    f"--checkpoint {self._path} is of another search: {_difference(name, had.get(name), value)}. Ask "
                    "what was asked then, give another name, or delete the file to begin anew."
                )

    def add(self, server: str, below: Sequence[Piece], done: Done, seconds: float) -> None:
        """A unit is done. When this returns, it is on the disk."""
        self._append(
            {
                "server": server,
                "seconds": round(seconds, 3),
                "below": [piece.to_json() for piece in below],
                "left": [piece.to_json() for piece in done.left],
                "part": done.part.to_json(),
            }
        )

    def _append(self, record: dict[str, Any]) -> None:
        data = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as exc:
            raise UsageError(
                f"--checkpoint {self._path} cannot be written: {exc.strerror}. What was written before is good: free "
                "some space, and give the same command to go on."
            ) from exc

    def _fsync_directory(self) -> None:
        """So that the file's name is on the disk, too."""
        directory = os.open(self._path.resolve().parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _read(record: Any, read: Callable[[Any], Piece]) -> tuple[tuple[Piece, ...], Done, float]:
    below = tuple(map(read, record["below"]))
    left = tuple(map(read, record["left"]))
    return below, Done(Part.from_json(record["part"]), left), float(record["seconds"])


def _difference(name: str, had: Any, have: Any) -> str:
    """Where two values that differ do so, in words."""
    if isinstance(had, dict) and isinstance(have, dict):
        for key in sorted({*had, *have}):
            if had.get(key) != have.get(key):
                return _difference(f"{name} {key}", had.get(key), have.get(key))
    if name == "source":
        return "the scenario's file has changed since then"
    return f"{name} was {had if had is not None else 'none'}, and is {have if have is not None else 'none'}"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Checkpoint]:
    """A checkpoint file, made if there is none, for this process alone.

    Raises:
        UsageError: it cannot be opened, or another process has it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as exc:
        raise UsageError(f"--checkpoint {path} cannot be opened: {exc.strerror}.") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"--checkpoint {path} is being written by another search. Wait for its end.") from None
        yield Checkpoint(path, descriptor)
    finally:
        os.close(descriptor)
