"""Environments with a server in them, made once and cached.

An environment is a virtual environment for one list of requirements and one interpreter. It lies under
`$ASGI_SIM_CACHE`, else `$XDG_CACHE_HOME/asgi-sim`, else `~/.cache/asgi-sim`, in `envs/`. Virtual environments cannot be
moved, so it is built in its final place, under a file lock, and a marker is written last: without the marker it is
rubbish that the next builder removes. To make one anew, delete its directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from models.environments.reason import reason
from sim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MARKER = "asgi-sim.json"
OUR_NEEDS = ("attrs", "packaging", "wsproto")
"""What the recorder needs in a real server's process, and what a module with a scenario in it imports."""
PIP_SECONDS = 600.0
OLDEST_PYTHON = (3, 10)

PINS: tuple[tuple[str, str, str], ...] = (("granian", ">=1.2,<1.3", "click<8.2"),)
"""Old releases that need an older library than they say: server, its versions, what to add."""

_PROBE = "import ensurepip, sys, venv; print('%d.%d.%d' % sys.version_info[:3])"
_VERSIONS = """
import importlib.metadata, json
print(json.dumps({d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}))
"""


@attrs.frozen
class Environment:
    """A virtual environment that is ready.

    Attributes:
        directory: where it is.
        python_version: its Python's version.
        packages: the versions of what is installed in it.
    """

    directory: Path
    python_version: str
    packages: dict[str, str]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.directory / "bin" / "python"

    def version_of(self, distribution: str) -> str:
        """The version of a distribution in it; empty if it is not there."""
        found = (v for n, v in self.packages.items() if canonicalize_name(n) == canonicalize_name(distribution))
        return next(found, "")


def parse_requirement(text: str) -> Requirement:
    """`text` as a requirement.

    Raises:
        UsageError: it is none.
    """
    try:
        return Requirement(text)
    except InvalidRequirement as exc:
        first = str(exc).splitlines()[0]
        raise UsageError(f"{text!r} is no requirement: {first}. Write it as pip takes it: granian==1.3.2") from exc


def cache_directory() -> Path:
    """Where environments are kept."""
    if own := os.environ.get("ASGI_SIM_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "asgi-sim"
    return Path.home() / ".cache" / "asgi-sim"


def find_python(wanted: str | None) -> tuple[str, str]:
    """An interpreter and its version. `wanted` is None (this one), a version such as "3.10", or a path.

    Raises:
        UsageError: there is none that works.
    """
    tried: list[str] = []
    for candidate in [sys.executable] if wanted is None else _candidates(wanted):
        version = _probe(candidate)
        if version is None or (wanted and os.sep not in wanted and not _is(version, wanted)):
            tried.append(f"{candidate} ({version or 'does not run'})")
            continue
        if tuple(map(int, version.split(".")))[:2] < OLDEST_PYTHON:
            raise UsageError(
                f"Python {version} at {candidate} is too old: asgi-sim needs 3.10 or newer there, too. Take another."
            )
        return candidate, version
    looked = f" Tried: {', '.join(tried)}." if tried else ""
    raise UsageError(
        f"no working interpreter for Python {wanted or sys.executable!r} was found.{looked} It needs the venv and "
        "ensurepip modules. Install one, or give its path: --python /path/to/python"
    )


def _candidates(wanted: str) -> list[str]:
    if os.sep in wanted:
        return [wanted]
    if not re.fullmatch(r"\d+(\.\d+){0,2}", wanted):
        raise UsageError(f"{wanted!r} is neither a Python version, such as 3.10, nor a path to an interpreter.")
    name = "python" + ".".join(wanted.split(".")[:2])
    on_path = [Path(d) / name for d in os.environ.get("PATH", "").split(os.pathsep) if d]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    versions = sorted((d for d in pyenv.glob(f"{wanted}*") if _is(d.name, wanted)), key=_numbers, reverse=True)
    found = [sys.executable, *map(str, on_path), *(str(d / "bin" / "python") for d in versions)]
    return [c for c in dict.fromkeys(found) if Path(c).exists()]


def _is(version: str, wanted: str) -> bool:
    return version == wanted or version.startswith(wanted + ".")


def _numbers(directory: Path) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", directory.name)]


def _probe(candidate: str) -> str | None:
    """The interpreter's version, or None if it does not run: the shims of pyenv exist for versions that do not."""
    try:
        ran = subprocess.run([candidate, "-c", _PROBE], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None


def make(
    requirements: Sequence[str],
    *,
    python: str | None = None,
    needs: Sequence[str] = OUR_NEEDS,
    wheels_only: Sequence[str] = (),
    say: Callable[[str], None] | None = None,
) -> Environment:
    """The environment for these requirements, from the cache or newly made.

    Args:
        requirements: what to install; the first is the server, and gives the directory its name.
        python: see `find_python`.
        needs: what we need there besides.
        wheels_only: distributions that are never built from source.
        say: told what is going on, when it takes long.

    Raises:
        UsageError: no such interpreter, or pip cannot install it.
    """
    interpreter, version = find_python(python)
    server = parse_requirement(requirements[0])
    wanted = sorted({*requirements, *needs, *pins(server)})
    digest = hashlib.sha256(json.dumps([version, wanted, sorted(wheels_only)]).encode()).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9.]+", "-", str(server)).strip("-")
    directory = cache_directory() / "envs" / f"{name}-py{version}-{digest}"
    ready = _read(directory)
    if ready is not None:
        return ready
    with _locked(directory.with_name(directory.name + ".lock"), say):
        ready = _read(directory)
        if ready is None:
            what = " ".join(dict.fromkeys(requirements))
            if say is not None:
                say(f"installing {what} for Python {version} into {directory}")
            shutil.rmtree(directory, ignore_errors=True)
            _build(directory, interpreter, version, what, wanted, wheels_only)
            ready = _read(directory)
    if ready is None:
        raise UsageError(f"the environment {directory} vanished while it was made. Run the command again.")
    return ready


def cached(python_version: str, versions: Mapping[str, str], needs: Sequence[str]) -> Environment | None:
    """An environment in the cache that has these very versions, and what we need; None if there is none."""
    names = [parse_requirement(need).name for need in needs]
    for marker in sorted((cache_directory() / "envs").glob(f"*/{MARKER}")):
        environment = _read(marker.parent)
        if (
            environment is not None
            and environment.python_version == python_version
            and all(environment.version_of(name) == version for name, version in versions.items())
            and all(environment.version_of(name) for name in names)
        ):
            return environment
    return None


def pins(server: Requirement) -> list[str]:
    """What a server needs besides, by the table `PINS`."""
    exact = [s.version for s in server.specifier if s.operator in ("==", "===") and not s.version.endswith("*")]
    name = canonicalize_name(server.name)
    return [also for n, versions, also in PINS if n == name and exact and SpecifierSet(versions).contains(exact[0])]


def _read(directory: Path) -> Environment | None:
    try:
        record = json.loads((directory / MARKER).read_text())
    except (OSError, ValueError):
        return None
    environment = Environment(directory, record["python"], record["packages"])
    return environment if environment.python.exists() else None


@contextmanager
def _locked(path: Path, say: Callable[[str], None] | None) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as exc:
        raise UsageError(
            f"no environment can be kept under {path.parent}: {exc}. Set ASGI_SIM_CACHE to a directory of your own."
        ) from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if say is not None:
                say(f"waiting for another process that makes {path.stem}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(
    directory: Path,
    interpreter: str,
    version: str,
    what: str,
    wanted: Sequence[str],
    wheels_only: Sequence[str],
) -> None:
    try:
        _run([interpreter, "-m", "venv", str(directory)], f"making a virtual environment with Python {version}")
        python = str(directory / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--no-compile", "--no-input", "--disable-pip-version-check"]
        only = ["--only-binary", ",".join(wheels_only)] if wheels_only else []
        _run([*pip, *only, *wanted], f"installing {what} for Python {version}")
        packages = json.loads(_run([python, "-c", _VERSIONS], "listing what was installed"))
    except UsageError:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    marker = directory / (MARKER + ".part")
    marker.write_text(json.dumps({"python": version, "requirements": list(wanted), "packages": packages}, indent=1))
    marker.rename(directory / MARKER)


def _run(command: Sequence[str], what: str) -> str:
    """Run a command to its end. Returns what it printed."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False, env=env)
    except subprocess.TimeoutExpired:
        raise UsageError(f"{what} took longer than {PIP_SECONDS:g} s. Is the package index reachable?") from None
    if ran.returncode:
        said = reason(f"{ran.stdout}\n{ran.stderr}", what)
        raise UsageError(f"{what} failed. {said}")
    return ran.stdout
