"""Applications on frameworks, for searches by states: what these keep in C is met in each state."""

from __future__ import annotations

import fastapi
import starlette.applications
import starlette.responses
import starlette.routing


async def _greet(request: starlette.requests.Request) -> starlette.responses.Response:
    return starlette.responses.PlainTextResponse(f"hello {request.url.path}")


on_starlette = starlette.applications.Starlette(
    routes=[starlette.routing.Route("/{name:path}", _greet, methods=["GET", "POST"])]
)
on_fastapi = fastapi.FastAPI()


@on_fastapi.get("/{name:path}")
async def _hello(name: str) -> dict[str, str]:
    return {"hello": name}
