"""A search on disk: a file of JSON lines.

Theory of operation
===================

The first line says which search it is. A search that can be taken to pieces is a *journal*, which grows by one line for
each unit that is done: which pieces it explored, what it found and what it left. A unit is written, and is on the disk,
before anything that it left is given out. So at any moment the lines tell how far the search is: begin with the whole
as the only piece, and let each line take its pieces away and put what it left in their place. What was being done when
the process was killed is in no line, and is done again.

A search that is done in one go (one that draws, or one with a reduction) is a *snapshot*: behind the first line, one for
each server with all that the search has to know to go on: what was found, and the state of its policy (rule 5 of
`sim.search.policy`). It is written anew now and then (`sim.search.kept`), beside the file, and takes its place when it is whole.
What was done since is done again; it comes to the same, because a policy depends on nothing but its state and its runs.

Each line ends with a checksum of what stands before it.

Rules for this file:

1. A journal is only appended to. A process that is killed while it writes leaves a torn last line, without an end of
   line; it is cut off by whoever resumes. Any other damage is an error.
2. A search is resumed only by its own question: the same scenario, its file unchanged, the same servers, settings and
   versions. Bounds on runs and on time may differ: they say when it stops, and nothing else.
3. One process at a time: the file is locked. So is a snapshot before it takes the file's place.
4. With what was found go a few of the runs (`sim.search.witness`). Whoever resumes runs them first: if they are not what
   they were, because code was changed or depends on the seed of Python's hashes, it is not gone on with.
5. It is JSON, and so runs no code of whoever has written it.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import importlib.metadata
import inspect
import json
import os
import stat
import zlib
from typing import TYPE_CHECKING, Any

from sim.errors import UsageError
from sim.search.part import Part
from sim.search.question import ONLY_WHEN_TO_STOP
from sim.search.unit import Done
from sim.search.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sim.check.scenario import Scenario
    from sim.search.frontier import Piece
    from sim.search.question import Question
    from sim.search.spread import Search

FORMAT = 3
_CHECKSUM = b',"crc":'


def identity(
    scenario: Scenario, name: str, question: Question, servers: Mapping[str, dict[str, str]]
) -> dict[str, Any]:
    """What makes a search this very search, as JSON types; `servers` are the versions by server."""
    settings = {n: v for n, v in question.settings.items() if n not in ONLY_WHEN_TO_STOP}
    settings["params"] = {n: repr(v) for n, v in scenario.arguments(question.params).items()}
    return {
        "checkpoint": FORMAT,
        "asgi-sim": _own_version(),
        "scenario": name,
        "source": _source(scenario),
        "settings": settings,
        "servers": dict(servers),
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
        self._identity: dict[str, Any] = {}
        self._snapshots: dict[str, bytes] = {}

    @property
    def file(self) -> str:
        """Its name, as it was given."""
        return str(self._path)

    def resume(self, asked: dict[str, Any], searches: Sequence[Search]) -> int:
        """Bring searches to where a journal says that they were. Returns how many units were done.

        Args:
            asked: the `identity` of what is asked now.
            searches: which have not begun.

        Raises:
            UsageError: it is the checkpoint of another search, or is damaged.
        """
        units = 0
        by_server = {search.server: search for search in searches}
        for number, record, _ in self._records(asked):
            with self._damage(number):
                search = by_server[record["server"]]
                search.resume(*_read(record, search.cut.read))
                units += 1
        return units

    def recall(self, asked: dict[str, Any]) -> None:
        """Take up the snapshots of the searches that are done in one go.

        Args:
            asked: the `identity` of what is asked now.

        Raises:
            UsageError: see `resume`.
        """
        for number, record, line in self._records(asked):
            with self._damage(number):
                self._snapshots[record["server"]] = line
                self.snapshot(record["server"])

    def snapshot(self, server: str) -> Any:
        """What was kept of a search that is done in one go, or None."""
        line = self._snapshots.get(server)
        if line is None:
            return None
        return json.loads(zlib.decompress(base64.b64decode(json.loads(line)["state"])))

    def _records(self, asked: dict[str, Any]) -> Iterator[tuple[int, Any, bytes]]:
        """The whole lines behind the first, with their numbers. An empty file gets its first line."""
        whole = 0
        with open(self._descriptor, "rb", closefd=False) as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n") and (number > 1 or _line(asked).startswith(line)):
                    break
                with self._damage(number):
                    record = json.loads(line)
                    if number == 1 and isinstance(record, dict) and record.get("checkpoint", FORMAT) != FORMAT:
                        self._compare(record, asked)  # another format, which may know of no checksums
                    _check(line)
                    if number == 1:
                        self._compare(record, asked)
                if number > 1:
                    yield number, record, line
                whole += len(line)
        os.ftruncate(self._descriptor, whole)
        self._identity = asked
        if whole == 0:
            self._append(asked)
            self._fsync_directory()

    @contextlib.contextmanager
    def _damage(self, line: int) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError, IndexError, RecursionError, zlib.error) as exc:
            raise UsageError(
                f"--checkpoint {self._path}: line {line} is not what a search writes ({type(exc).__name__}). "
                "The file is damaged, or is no checkpoint. Give another name, or delete it to begin anew."
            ) from None

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
                "witness": done.witness.to_json() if done.witness is not None else None,
            }
        )

    def keep(self, server: str, state: Any) -> None:
        """Put a search's snapshot in the place of its last one. When this returns, it is on the disk."""
        packed = zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 1)
        record = {"server": server, "state": base64.b64encode(packed).decode()}
        self._snapshots[server] = _line(record)
        path = self._path.resolve()
        beside = path.with_name(path.name + ".new")
        with self._writing():
            descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _write(descriptor, b"".join((_line(self._identity), *self._snapshots.values())))
                os.replace(beside, path)
            except OSError:
                os.close(descriptor)
                with contextlib.suppress(OSError):
                    os.unlink(beside)
                raise
            os.close(self._descriptor)
            self._descriptor = descriptor
            self._fsync_directory()

    def close(self) -> None:
        """Let others have the file."""
        os.close(self._descriptor)

    def _append(self, record: dict[str, Any]) -> None:
        with self._writing():
            _write(self._descriptor, _line(record))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            full = exc.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
            where = f" ({exc.filename})" if exc.filename is not None else ""
            advice = "free some space" if full else "let this process write there, and make files beside it"
            raise UsageError(
                f"--checkpoint {self._path} cannot be written: {exc.strerror}{where}. What was written before is good: "
                f"{advice}, and give the same command to go on."
            ) from exc

    def _fsync_directory(self) -> None:
        """So that the file's name is on the disk, too."""
        directory = os.open(self._path.resolve().parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _line(record: dict[str, Any]) -> bytes:
    head = json.dumps(record, separators=(",", ":")).encode()[:-1]
    return b"%s%s%d}\n" % (head, _CHECKSUM, zlib.crc32(head))


def _check(line: bytes) -> None:
    """See whether a line is what was written.

    Raises:
        ValueError: it is not.
    """
    head, _, checksum = line.rpartition(_CHECKSUM)
    if b"%d}\n" % zlib.crc32(head) != checksum:
        raise ValueError


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def _read(record: Any, read: Callable[[Any], Piece]) -> tuple[tuple[Piece, ...], Done, float]:
    below = tuple(map(read, record["below"]))
    left = tuple(map(read, record["left"]))
    witness = Witness.from_json(record["witness"]) if record["witness"] is not None else None
    return below, Done(Part.from_json(record["part"]), left, witness), float(record["seconds"])


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
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as exc:
            raise UsageError(f"--checkpoint {path} cannot be opened: {exc.strerror}.") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UsageError(f"--checkpoint {path} is no regular file. Give the name of one, or of none to make it.")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(f"--checkpoint {path} is being written by another search. Wait for its end.") from None
        except OSError as exc:
            os.close(descriptor)
            raise UsageError(
                f"--checkpoint {path} cannot be locked: {exc.strerror}. Put it on a file system that has locks."
            ) from None
        os.close(descriptor)  # another one has taken its place meanwhile
    with contextlib.closing(Checkpoint(path, descriptor)) as checkpoint:
        yield checkpoint
