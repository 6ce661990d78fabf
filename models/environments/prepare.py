"""From a subject's requirement to a process that can search it: what to install, where, and how to begin there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from models.environments.door import door
from models.environments.make import Environment, cached, find_python, make, parse_requirement
from models.process.servers import DRIVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

NEEDS = ("attrs>=24.1", "networkx>=3.2", "packaging>=23", "starlette")
"""What the search needs in the process where it runs, and what the applications of our scenarios do."""
PARSERS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"h11", "httptools"}), "httptools"),
    (frozenset({"websockets", "websockets-sansio", "wsproto"}), "websockets"),
)
"""uvicorn's extras of each kind, and what it prefers where none is named."""
NOT_DECLARED = (("h11", "0.10", "wsproto", "wsproto<1.1"),)
"""What distributions do not say of one another: below that version of the first, the second has to be so. wsproto 1.1
imports what came with h11 0.10, and asks for 0.9 or newer."""
BRINGS = {"hypercorn": ("wsproto",)}
"""What servers bring by themselves, of those."""
BEGIN = "import sys; sys.path[0] = sys.argv[1] + '/ours'; from models.environments.begin import main; main()"


@attrs.frozen
class Place:
    """Where a search can run.

    Attributes:
        environment: the environment.
        command: the command line of a process in it, to which two file descriptors are added: where it reads what it
            is to do, and where it answers (`sim.search.there`).
    """

    environment: Environment
    command: tuple[str, ...]


def prepare(
    requirement: str,
    *,
    model: bool,
    also: Sequence[str] = (),
    python: str | None = None,
    versions: Mapping[str, str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Place:
    """The place for a subject, from the cache or newly made.

    Args:
        requirement: the subject's.
        model: whether it is a model, for which no server is installed.
        also: requirements of what is wanted beside it.
        python: the interpreter: None for this one, a version such as "3.10", or a path.
        versions: exact versions that a schedule was recorded with: any environment that has them will do.
        say: told what is going on, when it takes long.

    Raises:
        UsageError: no such interpreter, or pip cannot install it; with pip's own reason.
    """
    beside = [parse_requirement(text) for text in also]
    said = {canonicalize_name(requirement.name) for requirement in beside}
    wanted = [
        *([] if model else [r for r in to_install(parse_requirement(requirement)) if r not in said]),
        *map(str, beside),
    ]
    wanted = _going_together(wanted, beside, said)
    if versions:
        environment = cached(find_python(python)[1], versions, NEEDS)
        wanted += [f"{name}=={version}" for name, version in versions.items()]
    else:
        environment = None
    if environment is None:
        environment = make(wanted or [NEEDS[0]], python=python, needs=NEEDS, say=say)
    return Place(environment, (str(environment.python), "-c", BEGIN, str(door())))


def _going_together(wanted: Sequence[str], beside: Sequence[Requirement], said: Container[str]) -> list[str]:
    """The same requirements, with what nobody has declared of them (`NOT_DECLARED`)."""
    found = list(wanted)
    for name, version, other, bound in NOT_DECLARED:
        old = any(canonicalize_name(r.name) == name and _below(r, Version(version)) for r in beside)
        brought = any(other in BRINGS.get(canonicalize_name(Requirement(text).name), ()) for text in wanted)
        if old and other not in said and (brought or other in wanted):
            found = [text for text in found if text != other]
            found.append(bound)
    return found


def _below(requirement: Requirement, version: Version) -> bool:
    """Whether a requirement can only be met below a version."""
    for spec in requirement.specifier:
        limit = Version(spec.version.removesuffix(".*"))
        if (spec.operator in ("==", "<=", "~=") and limit < version) or (spec.operator == "<" and limit <= version):
            return True
    return False


def to_install(requirement: Requirement) -> list[str]:
    """The requirements of a real server with the parsers that its extras name, or that it takes without any."""
    name = canonicalize_name(requirement.name)
    driver = next((driver for driver in DRIVERS if driver.name == name), None)
    if driver is None:
        return [str(requirement)]
    also = [parser for options, parser in PARSERS if name == "uvicorn" and not options.intersection(requirement.extras)]
    return [*driver.to_install(requirement), *also]
