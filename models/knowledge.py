"""What is known of the servers' own code, for fingerprints of worlds that it runs in (`sim.world.fingerprint`)."""

from __future__ import annotations

from sim.world.fingerprint import Knowledge

PACKAGES = frozenset(
    {
        "asgiref",
        "attr",
        "attrs",
        "click",
        "h11",
        "h2",
        "hpack",
        "httptools",
        "hypercorn",
        "hyperframe",
        "priority",
        "typing_extensions",
        "uvicorn",
        "websockets",
        "wsproto",
    }
)
"""Packages that keep nothing in module or class variables from one event to the next."""

KNOWLEDGE = Knowledge(
    constant=PACKAGES,
    fed=frozenset(
        {
            "httptools.parser.parser.HttpRequestParser",
            "httptools.parser.parser.HttpParser",
        }
    ),
    skip=frozenset(
        {
            # The order in which they are cut or dropped at the end; each is met by way of its connection.
            "models.granian.server.Worker._connections",
            "models.granian.native.Runtime._tasks",
        }
    ),
    pickled=frozenset(
        {
            # FastAPI's. They are made of a schema, and are frozen in Rust.
            "pydantic_core._pydantic_core.SchemaSerializer",
            "pydantic_core._pydantic_core.SchemaValidator",
        }
    ),
    frozen=frozenset(
        {
            "hypercorn.config.Config",
            "models.asgi.machine.Machine",
            "ssl.SSLContext",
            "uvicorn.config.Config",
            "uvicorn.middleware.proxy_headers._TrustedHosts",
        }
    ),
)
"""Of every server here: which packages are constant, which parsers only their connection feeds, and so on."""
