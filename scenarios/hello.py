"""Two requests on one connection are answered, in order, on every server.

A client opens a connection, asks for `/1`, reads the answer to its end, asks for `/2` on the same connection, reads
that answer and closes. Then the server is stopped with SIGTERM and shuts down gracefully, lifespan included.

With `--param http=2` the client speaks HTTP/2, and with `--param certificate=FILE` (chain and key, in PEM format) both
sides speak TLS, on servers that do. With `--param app=module:attribute` the application is one of your own; then only what ASGI and HTTP promise of every
application is claimed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.application import Application
from models.asgi import AsgiIllegal, AsgiReceived, AsgiSend
from models.cuts import interesting
from models.http1 import HttpClient, HttpCutOff, HttpRequest, HttpResponse
from models.http2 import ALPN, Http2Client
from models.rules import server_breaks_asgi
from models.serving import require
from models.tls import Certificate, client_context
from models.uvicorn import COMBINATIONS
from sim import Faults, Param, Scenario, Settings, Violation, always, eventually

if TYPE_CHECKING:
    from models.serving import Server
    from sim import Host, Trace, World

DEFAULT_APP = "scenarios.applications:hello"


def play(world: World, subject: Any, *, app: str, http: str, certificate: str, cuts: str) -> None:  # noqa: ARG001
    secured = {"certificate": Certificate(certificate, certificate)} if certificate else {}
    require(subject, *(["h2"] if http == "2" else []), *(["tls"] if secured else []))
    server: Server = subject.serve(world, Application(app), **secured)

    async def client(host: Host) -> None:
        tls = client_context(protocols=[ALPN] if http == "2" else []) if secured else None
        connection = Http2Client(host, tls=tls) if http == "2" else HttpClient(host, tls=tls)
        try:
            await connection.connect(server.address)
        except ConnectionError:
            return
        for path in ("/1", "/2"):
            if await connection.request(path) is None:
                break
        connection.close()

    world.start_script("client", client)


@eventually("requests-answered", "Each complete request gets exactly one complete response, in order.")
def requests_answered(trace: Trace) -> Violation | None:
    for cut in trace.of(HttpCutOff):
        return Violation(f"a request was not answered: {cut.read}", cut)
    ours = any(e.message.get("body", b"").startswith(b"hello /") for e in trace.of(AsgiSend))
    asked = [e.target for e in trace.of(HttpRequest)]
    answers = [(e.status, e.body) for e in trace.of(HttpResponse)]
    if len(answers) != len(asked):
        return Violation(f"{len(asked)} requests got {len(answers)} answers")
    if ours and answers != [(200, b"hello " + target.encode()) for target in asked]:
        return Violation(f"the answers were {answers}")
    return None


@eventually(
    "lifespan-paired",
    "An application that took part in startup is told of the shutdown, once.",
    source="ASGI lifespan, Shutdown",
)
def lifespan_paired(trace: Trace) -> Violation | None:
    told = [e.message["type"] for e in trace.of(AsgiReceived) if e.actor == "lifespan"]
    started = any(e.message["type"] == "lifespan.startup.complete" for e in trace.of(AsgiSend))
    if started and told != ["lifespan.startup", "lifespan.shutdown"]:
        return Violation(f"the application was told {told}")
    return None


@always("application-legal", "The application keeps to ASGI.")
def application_legal(trace: Trace) -> Violation | None:
    for event in trace.of(AsgiIllegal):
        if event.side == "application":
            return Violation(event.describe(), event)
    return None


scenario = Scenario(
    name="hello",
    story=__doc__,
    play=play,
    invariants=(requests_answered, lifespan_paired, server_breaks_asgi, application_legal),
    servers=(*COMBINATIONS, "hypercorn", "granian==1.4.1", "granian==1.4.2", "reference"),
    params=(
        Param("app", DEFAULT_APP, "the application, as module:attribute"),
        Param("http", "1.1", "the version of HTTP", ("1.1", "2")),
        Param(
            "cuts",
            "all",
            "where --faults cut=1 cuts: at every byte, or where it is interesting",
            ("all", "interesting"),
        ),
        Param("certificate", "", "a PEM file with the server's certificate and key; with it, TLS is spoken"),
    ),
    settings=lambda cuts, **_: Settings(
        latency=(0.0, 0.1), shutdown=True, faults=Faults(cuts=interesting if cuts == "interesting" else None)
    ),
)
