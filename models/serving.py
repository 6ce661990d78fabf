"""What every subject does alike: record the application, start a process, wait until it listens."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

import attrs

from models.asgi.recorder import Recorder
from sim.errors import NotInstalled, StartupError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from packaging.requirements import Requirement

    from models.application import Application
    from sim.world.kernel import Address
    from sim.world.process import Process
    from sim.world.world import World

ADDRESS: Address = ("127.0.0.1", 8000)
STARTUP_SECONDS = 60.0


@attrs.frozen
class Server:
    """A running server: where it listens, and its process."""

    address: Address
    process: Process


def require(subject: Any, *features: str) -> None:
    """Make sure that a subject speaks what a scenario is going to: "tls", "h2".

    Raises:
        UsageError: it does not.
    """
    missing = [feature for feature in features if feature not in getattr(subject, "speaks", ())]
    if missing:
        raise UsageError(
            f"{subject.requirement} does not speak {' and '.join(missing)} here. uvicorn speaks tls; hypercorn tls and h2."
        )


def recorded(world: World, application: Application) -> Recorder:
    """The application behind the recorder; the world notes which it is, for a replay on a real process."""
    world.notes["application"] = application
    return Recorder(application.load(), world.trace.record, world)


def start(
    world: World,
    name: str,
    main: Callable[[], Coroutine[Any, Any, Any]],
    *,
    ticks: frozenset[int] = frozenset(),
) -> Server:
    """Start a server process and let the world run until it listens.

    Raises:
        StartupError: it ended before, or does not listen after `STARTUP_SECONDS` of virtual time.
    """
    process = world.start_process("server", main, ticks)
    listeners = world.kernel.listeners
    world.run_until(lambda: ADDRESS in listeners or process.exited, within=STARTUP_SECONDS)
    process.require_started(ADDRESS in listeners)
    if ADDRESS not in listeners:
        raise StartupError(
            f"{name} does not listen after {STARTUP_SECONDS:g} s of virtual time. The likeliest cause is an application "
            "that never answers lifespan.startup."
        )
    return Server(ADDRESS, process)


def installed(requirement: Requirement, *also: str) -> dict[str, str]:
    """The versions of a distribution that is installed, and of those that it is used with.

    Raises:
        NotInstalled: it is not installed, or not in a version that the requirement allows.
    """
    name = requirement.name.lower()
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        raise NotInstalled(f"{name} is not installed here. Run: pip install {name}") from None
    if not requirement.specifier.contains(version, prereleases=True):
        raise NotInstalled(
            f"{requirement} asks for another version than the one installed here, which is {version}. Install the "
            "version that you mean, or leave the version out."
        )
    return {name: version, **{d: metadata.version(d) for d in also}}


def extras(requirement: Requirement, groups: tuple[tuple[str, ...], ...]) -> list[str | None]:
    """Which option of each group the requirement's extras pick; None where it picks none.

    Raises:
        UsageError: an unknown extra, or two of one group.
    """
    picked: list[str | None] = []
    known = [option for group in groups for option in group]
    name = requirement.name.lower()
    unknown = sorted(e for e in requirement.extras if e not in known)
    if unknown:
        offer = " and ".join(f"one of {', '.join(group)}" for group in groups) or "no extras"
        raise UsageError(f"{requirement}: {name} has no combination with {', '.join(unknown)!r}. It takes {offer}.")
    for group in groups:
        chosen = [option for option in group if option in requirement.extras]
        if len(chosen) > 1:
            raise UsageError(
                f"{requirement}: {' and '.join(chosen)} exclude one another. Pick one of {', '.join(group)}."
            )
        picked.append(chosen[0] if chosen else None)
    return picked
