"""The adapter for real hypercorn: `hypercorn.asyncio.serve` with its own sockets and signal handlers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import attrs
from hypercorn.asyncio import serve
from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config

from models.knowledge import KNOWLEDGE
from models.serving import ADDRESS, Server, extras, installed, recorded, start
from sim.world.fingerprint.frames import DEAD

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from models.application import Application
    from models.tls import Certificate
    from sim.world.fingerprint import Knowledge
    from sim.world.world import World

DEAD[worker_serve.__code__] = "signal_name"
"""It runs over a set of texts, so where it ends tells one process's states from another's, and nothing else."""


@attrs.frozen
class Hypercorn:
    """Real hypercorn."""

    requirement: str
    versions: dict[str, str]
    kind: str = "real"
    speaks: frozenset[str] = frozenset({"tls", "h2"})
    knowledge: Knowledge = KNOWLEDGE

    def serve(
        self, world: World, application: Application, *, certificate: Certificate | None = None, **options: Any
    ) -> Server:
        """Start it, with TLS if there is a certificate; `options` are attributes of `hypercorn.config.Config`."""
        app = recorded(world, application)
        settings = {"bind": ["%s:%d" % ADDRESS], "errorlog": logging.getLogger("hypercorn.error"), **options}
        if certificate is not None:
            settings.update(certfile=certificate.chain, keyfile=certificate.key)
        config = Config.from_mapping(settings)
        return start(world, self.requirement, lambda: serve(app, config))  # type: ignore[arg-type]


def subject(requirement: Requirement) -> Hypercorn:
    """`hypercorn`."""
    extras(requirement, ())
    return Hypercorn("hypercorn", installed(requirement, "h11", "h2", "wsproto"))
