"""What changed in Granian from version to version, as data: one row for each change of behaviour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from packaging.version import Version

from sim.errors import UsageError

if TYPE_CHECKING:
    from packaging.requirements import Requirement


@attrs.frozen
class Behaviour:
    """How one version behaves, where versions differ.

    Attributes:
        pong_is_an_error: a Pong that `receive()` reads is logged as unsupported and raises "ASGI flow error" (#318).
    """

    pong_is_an_error: bool = True


@attrs.frozen
class Change:
    """A change of behaviour: the version that brought it, where it is described, and what it sets."""

    version: str
    reference: str
    sets: dict[str, Any]


FIRST = Behaviour()
"""The oldest version that is modelled."""

CHANGES = (Change("1.4.2", "pull request 321, for issue 318", {"pong_is_an_error": False}),)

VERSIONS = ("1.3.2", "1.4.0", "1.4.1", "1.4.2", "1.4.3", "1.4.4")
"""The versions whose WebSocket and HTTP sides are as modelled."""


def behaviour_of(version: str) -> Behaviour:
    """The rows up to and including `version`, applied in order."""
    behaviour = FIRST
    for change in CHANGES:
        if Version(version) >= Version(change.version):
            behaviour = attrs.evolve(behaviour, **change.sets)
    return behaviour


def modelled_version(requirement: Requirement) -> str:
    """The newest modelled version that a requirement allows.

    Raises:
        UsageError: there is none.
    """
    for version in reversed(VERSIONS):
        if requirement.specifier.contains(version):
            return version
    raise UsageError(
        f"{requirement} is not modelled. The modelled versions of granian are {', '.join(VERSIONS)}; others can only "
        "be replayed on as real processes (asgi-sim replay BLOB --real REQUIREMENT)."
    )
