"""The first thing that runs in an environment: our side takes its own client libraries, the server keeps its own.

A subject may be of another time and bring an h11, h2 or wsproto of that time; our clients, and our models of servers, go
on with those that they were written for (`models.environments.door`). So our modules are imported first, with the
clients' directory in front of everything else. Then the libraries are taken out of the table of modules, and whoever
imports them afterwards, a server or an application, gets the environment's. They stay in the table under other names,
where the boundary of a world finds them.

A scenario of a user's own is imported behind that. It speaks through the functions of `models.websocket`, and so needs
no library by itself; where the environment has none, it is given the clients'.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from importlib import metadata

OURS = ("models.http1", "models.http2", "models.websocket", "models.granian", "models.reference")
CLIENTS = ("h11", "h2", "hpack", "hyperframe", "wsproto")
ALIAS = "asgi_sim_clients"


def main() -> None:
    """Take the client libraries, then serve one request; the arguments are a door and two file descriptors."""
    door, inbox, outbox = sys.argv[1:]
    bind(f"{door}/clients")
    from sim.search.there import serve

    serve(int(inbox), int(outbox))


def bind(clients: str) -> None:
    """Import our modules with the libraries at `clients`, and nobody else with them."""
    sys.path.insert(0, clients)
    try:
        for module in OURS:
            importlib.import_module(module)
        for entry in metadata.entry_points(group="asgi_sim.scenarios"):
            if entry.module.partition(".")[0] == "scenarios":
                with contextlib.suppress(ImportError):  # it says so itself when it is asked for
                    importlib.import_module(entry.module)
    finally:
        sys.path.remove(clients)
    for name in list(sys.modules):
        if name.partition(".")[0] in CLIENTS:
            sys.modules[f"{ALIAS}.{name}"] = sys.modules.pop(name)
    sys.path.append(clients)
