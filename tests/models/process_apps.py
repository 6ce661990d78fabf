"""Applications that the tests of the replay on real processes serve; the server's process imports them from here."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

Scope = dict[str, Any]


async def _accept(scope: Scope, receive: Any, send: Any) -> bool:
    """Whether a WebSocket was accepted; plays the lifespan's part by the way."""
    if scope["type"] == "lifespan":
        for answer in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{answer}.complete"})
        return False
    await receive()
    await send({"type": "websocket.accept"})
    return True


async def _echo(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.send", "text": message["text"]})


async def echo(scope: Scope, receive: Any, send: Any) -> None:
    """Sends back every text."""
    if await _accept(scope, receive, send):
        await _echo(receive, send)


def busy(seconds: float) -> Any:
    """An echo that is busy with something else first."""

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        if await _accept(scope, receive, send):
            await asyncio.sleep(seconds)
            await _echo(receive, send)

    return app


def polling(seconds: float) -> Any:
    """An echo that gives `receive()` only so long, and then tries again."""

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        if not await _accept(scope, receive, send):
            return
        while True:
            try:
                message = await asyncio.wait_for(receive(), seconds)
            except asyncio.TimeoutError:
                continue
            if message["type"] == "websocket.disconnect":
                return
            await send({"type": "websocket.send", "text": message["text"]})

    return app


async def deaf(scope: Scope, receive: Any, send: Any) -> None:
    """Never receives again: says one thing and returns."""
    if await _accept(scope, receive, send):
        await asyncio.sleep(0.1)
        await send({"type": "websocket.send", "text": "tick"})


async def frozen(scope: Scope, receive: Any, send: Any) -> None:
    """Blocks the event loop for good."""
    if await _accept(scope, receive, send):
        time.sleep(120)


async def dying(scope: Scope, receive: Any, send: Any) -> None:
    """Takes the process with it."""
    if await _accept(scope, receive, send):
        os._exit(7)


async def unwilling(scope: Scope, receive: Any, send: Any) -> None:
    """Refuses to start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def hello(scope: Scope, receive: Any, send: Any) -> None:
    """Answers every request."""
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})
