"""Which servers can run as a real process, how each is started, and how each prints its log."""

from __future__ import annotations

import importlib.util
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import attrs
from packaging.utils import canonicalize_name

from models.process.link import Lines
from sim.errors import StartupError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packaging.requirements import Requirement

HOST = "127.0.0.1"
DOOR = Path(__file__).resolve().parent / "door"
TARGET = "asgi_sim_door:app"
STARTUP_SECONDS = 10.0
KILL_SECONDS = 5.0
"""Real seconds for which the end of a killed server's processes is waited for."""
TAIL_LINES = 20


@attrs.frozen
class Driver:
    """How one server is run.

    Attributes:
        name: the distribution, and the module for `python -m`.
        arguments: its command line; `{port}` and `{target}` are filled in.
        log: matches the first line of a log record; groups `level` and `message`.
        logger: the logger that such a record comes from.
        wheels_only: never build the distribution from source.
        extras: options that a requirement's extras pick: extra, the arguments for it, and what to install for it.
    """

    name: str
    arguments: tuple[str, ...]
    log: re.Pattern[str]
    logger: str
    wheels_only: bool = False
    extras: Mapping[str, tuple[tuple[str, ...], str]] = attrs.field(factory=dict)

    def command(self, python: Path, port: int, requirement: Requirement) -> list[str]:
        """The command line."""
        filled = [a.format(port=port, target=TARGET) for a in self.arguments]
        chosen = [a for extra in sorted(requirement.extras) for a in self.extras[extra][0]]
        return [str(python), "-m", self.name, *chosen, *filled]

    def to_install(self, requirement: Requirement) -> list[str]:
        """The requirements of the environment; the server's first, and without our own extras."""
        unknown = sorted(e for e in requirement.extras if e not in self.extras)
        if unknown:
            said = ", ".join(unknown)
            offer = ", ".join(self.extras) or "no extras"
            raise UsageError(f"{requirement}: {self.name} has no combination with {said!r}. It takes {offer}.")
        source = f" @ {requirement.url}" if requirement.url else str(requirement.specifier)
        return [f"{self.name}{source}", *(self.extras[e][1] for e in sorted(requirement.extras))]


DRIVERS: tuple[Driver, ...] = (
    Driver(
        "granian",
        ("--interface", "asgi", "--host", HOST, "--port", "{port}", "--workers", "1", "{target}"),
        re.compile(r"\[(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\] (?P<message>.*)"),
        "_granian",
        wheels_only=True,
    ),
    Driver(
        "uvicorn",
        ("--host", HOST, "--port", "{port}", "--no-access-log", "--no-use-colors", "{target}"),
        re.compile(r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL): +(?P<message>.*)"),
        "uvicorn.error",
        extras={
            "h11": (("--http", "h11"), "h11"),
            "httptools": (("--http", "httptools"), "httptools"),
            "websockets": (("--ws", "websockets"), "websockets"),
            "websockets-sansio": (("--ws", "websockets-sansio"), "websockets"),
            "wsproto": (("--ws", "wsproto"), "wsproto"),
        },
    ),
    Driver(
        "hypercorn",
        ("--bind", HOST + ":{port}", "{target}"),
        re.compile(r"\[[-0-9: +]+\] \[\d+\] \[(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\] (?P<message>.*)"),
        "hypercorn.error",
    ),
)


def driver_for(requirement: Requirement) -> Driver:
    """The driver of a requirement's distribution.

    Raises:
        UsageError: there is none.
    """
    name = canonicalize_name(requirement.name)
    for driver in DRIVERS:
        if driver.name == name:
            return driver
    raise UsageError(
        f"{requirement} cannot be replayed on a real process: there is a driver for "
        f"{', '.join(d.name for d in DRIVERS)} only. Name one of them, such as granian==1.3.2."
    )


@attrs.define
class LogRecord:
    """One record of a server's log, as it was printed; `more` are the lines under it, usually a traceback."""

    time: float
    level: str
    message: str
    more: list[str] = attrs.field(factory=list)

    @property
    def exception(self) -> str | None:
        """The last line of the traceback, if there is one: type and text of the exception."""
        if not any(line.startswith("Traceback (most recent call last)") for line in self.more):
            return None
        ends = [line for line in self.more if re.match(r"[A-Za-z_][\w.]*(: |$)", line)]
        return ends[-1] if ends else None


def records(lines: Iterable[tuple[float, str]], log: re.Pattern[str]) -> list[LogRecord]:
    """The records in what a server printed."""
    found: list[LogRecord] = []
    for when, line in lines:
        match = log.match(line)
        if match is not None:
            found.append(LogRecord(when, match["level"], match["message"]))
        elif found:
            found[-1].more.append(line)
    return found


class ServerProcess:
    """A running server, in a process group of its own.

    Args:
        command: its command line.
        port: where it will listen.
        env: its environment.
    """

    def __init__(self, command: Sequence[str], port: int, env: Mapping[str, str]) -> None:
        self.port = port
        self.printed: list[tuple[float, str]] = []
        self._lines = Lines()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.output: IO[bytes] = self._process.stdout
        os.set_blocking(self.output.fileno(), False)

    def read(self) -> bool:
        """Take what it has printed. False at the end of its output."""
        while True:
            try:
                data = os.read(self.output.fileno(), 65_536)
            except BlockingIOError:
                return True
            for line in self._lines.feed(data) if data else self._lines.finish():
                self.printed.append((time.monotonic(), line.decode("utf-8", "replace").rstrip("\r")))
                self._tail.append(self.printed[-1][1])
            if not data:
                return False

    @property
    def ended(self) -> int | None:
        """Its exit status, if it has ended."""
        return self._process.poll()

    def tail(self) -> str:
        """The end of what it has printed."""
        return "\n".join(f"    {line}" for line in self._tail) or "    (nothing)"

    def listens(self) -> bool:
        """Whether a connection is accepted."""
        try:
            socket.create_connection((HOST, self.port), timeout=0.5).close()
        except OSError:
            return False
        return True

    def failed_to_start(self, name: str, waited: float) -> StartupError:
        """The error for a server that did not come up."""
        how = f"ended with status {self.ended}" if self.ended is not None else f"was not ready after {waited:.0f} s"
        hint = "The likeliest cause is the application's import or its lifespan startup."
        missing = re.search(r"No module named '([\w.]+)'", self.tail())
        if missing:
            hint = (
                f"{missing[1].partition('.')[0]!r} cannot be imported in the environment that was made for the server. "
                "If the application needs it, name its distribution in the application's requires."
            )
        return StartupError(f"the real server {name} {how}. {hint} It printed:\n{self.tail()}")

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End the whole process group, at once, and take the rest of its output.

        The output ends when the last process that holds it has closed it, and so is gone.
        """
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + KILL_SECONDS
        while self.read() and (left := deadline - time.monotonic()) > 0:
            select.select([self.output], [], [], left)
        self.output.close()


def free_port() -> int:
    """A port of loopback that nobody uses at the moment."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def environment_of(driver: Driver, directory: Path) -> dict[str, str]:
    """The environment variables of the server's process."""
    own = driver.name.upper() + "_"
    env = {k: v for k, v in os.environ.items() if not k.startswith((own, "PYTHONHOME", "VIRTUAL_ENV"))}
    env["PYTHONPATH"] = os.pathsep.join(p for p in (str(DOOR), env.get("PYTHONPATH")) if p)
    env["PYTHONUNBUFFERED"] = "1"
    env["ASGI_SIM_REPLAY"] = str(directory)
    return env


def search_path(target: str) -> list[str]:
    """Where the module of an application is imported from here, for the end of the server's path."""
    try:
        spec = importlib.util.find_spec(target.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        return []
    if spec is None or spec.origin is None:
        return []
    file = Path(spec.origin).resolve()
    found = file.parent.parent if spec.submodule_search_locations else file.parent
    return [] if found.name in ("site-packages", "dist-packages") else [str(found)]
