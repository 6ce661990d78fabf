"""The adapter for real uvicorn: its `Config` and `Server`, as `uvicorn.run` uses them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import attrs
import uvicorn
from uvicorn.config import HTTP_PROTOCOLS, WS_PROTOCOLS
from uvicorn.importer import import_from_string

from models.knowledge import KNOWLEDGE
from models.serving import ADDRESS, Server, extras, installed, recorded, start

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from models.application import Application
    from models.tls import Certificate
    from sim.world.fingerprint import Knowledge
    from sim.world.world import World

HTTP = ("h11", "httptools")
WS = ("websockets", "websockets-sansio", "wsproto")
COMBINATIONS = tuple(f"uvicorn[{http},{ws}]" for http in HTTP for ws in WS)

TICKS = frozenset(
    id(function.__code__)
    for function in (uvicorn.Server.main_loop, uvicorn.Server.shutdown, uvicorn.Server._wait_tasks_to_complete)
)
"""Where uvicorn polls its own flags every 0.1 s."""


@attrs.frozen
class Uvicorn:
    """Real uvicorn, in one combination of its parsers."""

    requirement: str
    http: str
    ws: str
    versions: dict[str, str]
    kind: str = "real"
    speaks: frozenset[str] = frozenset({"tls"})
    knowledge: Knowledge = KNOWLEDGE

    def serve(
        self, world: World, application: Application, *, certificate: Certificate | None = None, **options: Any
    ) -> Server:
        """Start it, with TLS if there is a certificate; `options` are `uvicorn.Config`'s."""
        app = recorded(world, application)
        host, port = ADDRESS
        settings: dict[str, Any] = {"log_config": None, "access_log": False, **options}
        if certificate is not None:
            settings.update(ssl_certfile=certificate.chain, ssl_keyfile=certificate.key)
        config = uvicorn.Config(app, host=host, port=port, http=self.http, ws=self.ws, **settings)
        return start(world, self.requirement, lambda: uvicorn.Server(config).serve(), ticks=TICKS)


def subject(requirement: Requirement) -> Uvicorn:
    """`uvicorn[HTTP,WS]`; without extras, the combination that uvicorn itself prefers: httptools and websockets-sansio."""
    http, ws = extras(requirement, (HTTP, WS))
    http, ws = http or "httptools", ws or "websockets-sansio"
    versions = installed(requirement, http, "wsproto" if ws == "wsproto" else "websockets")
    _import_protocols(http, ws)
    return Uvicorn(f"uvicorn[{http},{ws}]", http, ws, versions)


def _import_protocols(http: str, ws: str) -> None:
    """Import uvicorn's protocol classes outside of any world, deprecated ones without a warning to the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for target in (HTTP_PROTOCOLS[http], WS_PROTOCOLS[ws]):
            if isinstance(target, str):
                import_from_string(target)
