"""The adapter for real uvicorn: its `Config` and `Server`, as `uvicorn.run` uses them, from 0.15 on.

Versions differ in what they poll, and in which combinations they have; both are read off the uvicorn that is there. It
is imported when it is asked for, because scenarios name its combinations where another server is installed.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import attrs

from models.knowledge import KNOWLEDGE
from models.serving import ADDRESS, Server, extras, installed, recorded, start
from sim.errors import UsageError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from models.application import Application
    from models.tls import Certificate
    from sim.world.fingerprint import Knowledge
    from sim.world.world import World

HTTP = ("h11", "httptools")
WS = ("websockets", "websockets-sansio", "wsproto")
COMBINATIONS = tuple(f"uvicorn[{http},{ws}]" for http in HTTP for ws in WS)
POLLING = ("main_loop", "shutdown", "_wait_tasks_to_complete")
"""The methods of its `Server` in which uvicorn polls its own flags every 0.1 s; before 0.18 there is no third."""


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
        import uvicorn

        app = recorded(world, application)
        host, port = ADDRESS
        settings: dict[str, Any] = {"log_config": None, "access_log": False, **options}
        if certificate is not None:
            settings.update(ssl_certfile=certificate.chain, ssl_keyfile=certificate.key)
        config = uvicorn.Config(app, host=host, port=port, http=self.http, ws=self.ws, **settings)
        return start(world, self.requirement, lambda: uvicorn.Server(config).serve(), ticks=ticks())


def subject(requirement: Requirement) -> Uvicorn:
    """`uvicorn[HTTP,WS]`; without extras, the combination that uvicorn itself prefers.

    Raises:
        NotInstalled: this version is not here.
        UsageError: no such combination, or not in this version.
    """
    http, ws = extras(requirement, (HTTP, WS))
    installed(requirement)
    http = _combination(requirement, "http", http, HTTP)
    ws = _combination(requirement, "websockets", ws, WS)
    versions = installed(requirement, http, "wsproto" if ws == "wsproto" else "websockets")
    return Uvicorn(f"uvicorn[{http},{ws}]", http, ws, versions)


def _combination(requirement: Requirement, layer: str, wanted: str | None, names: tuple[str, ...]) -> str:
    """The parser that is wanted, or else uvicorn's own choice; imported outside of any world.

    Importing a deprecated one warns; that is not the user's business.
    """
    import uvicorn
    from uvicorn import config
    from uvicorn.importer import import_from_string

    table: dict[str, Any] = config.HTTP_PROTOCOLS if layer == "http" else config.WS_PROTOCOLS
    if wanted is not None and wanted not in table:
        known = ", ".join(name for name in names if name in table)
        raise UsageError(f"{requirement}: uvicorn {uvicorn.__version__} has no {wanted}. It takes one of {known}.")

    def load(name: str) -> Any:
        target = table[name]
        try:
            return import_from_string(target) if isinstance(target, str) else target
        except ImportError as exc:
            raise UsageError(
                f"{requirement}: uvicorn {uvicorn.__version__} cannot import its side of {name}: {exc}. The likeliest "
                "cause is a library of another time than its own. Name one that goes with it: --with."
            ) from exc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if wanted is not None:
            load(wanted)
            return wanted
        preferred = load("auto")
        return next((name for name in names if name in table and load(name) is preferred), names[0])


@functools.cache
def ticks() -> frozenset[int]:
    """The code objects in which uvicorn polls its own flags (see `sim.world.loop`)."""
    import uvicorn

    methods = (getattr(uvicorn.Server, name, None) for name in POLLING)
    return frozenset(id(method.__code__) for method in methods if method is not None)
