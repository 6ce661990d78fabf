"""The applications of the scenarios, importable wherever a server runs: they need no more than they name.

A replay on a real process imports this module inside that server's own environment, where neither the simulator's
dependencies nor the other servers are installed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RECEIVING = ("echo", "busy", "polling", "deaf", "starlette")
"""The ways of receiving that `receiving` knows."""
WORK = 0.05
"""Virtual seconds of an application's own work between two receives, and its timeout when it polls."""
FLOW_ERROR = "ASGI flow error"


async def take_part(receive: Any, send: Any) -> None:
    """Lifespan, for applications that have nothing to do there."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def hello(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Greets by path."""
    if scope["type"] == "lifespan":
        await take_part(receive, send)
        return
    await receive()
    body = b"hello " + scope["path"].encode()
    head = [(b"content-length", str(len(body)).encode()), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


def receiving(way: str, work: float = WORK) -> Callable[..., Awaitable[None]]:
    """An echo, with one way of receiving.

    Args:
        way: one of `RECEIVING`.
        work: seconds of work between two receives, or of patience when polling.
    """
    conversation = _CONVERSATIONS[way]

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await take_part(receive, send)
        elif way == "starlette":
            await _starlette(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.accept"})
            await conversation(receive, send, work)

    return app


async def _echo(receive: Any, send: Any, _work: float) -> None:
    while await _answer(await receive(), send):
        pass


async def _busy(receive: Any, send: Any, work: float) -> None:
    while True:
        await asyncio.sleep(work)
        if not await _answer(await receive(), send):
            return


async def _polling(receive: Any, send: Any, timeout: float) -> None:
    while True:
        try:
            message = await asyncio.wait_for(receive(), timeout)
        except asyncio.TimeoutError:
            continue
        if not await _answer(message, send):
            return


async def _deaf(_receive: Any, send: Any, work: float) -> None:
    await send({"type": "websocket.send", "text": "tick"})
    await asyncio.sleep(4 * work)
    await send({"type": "websocket.send", "text": "tock"})


async def _starlette(scope: dict[str, Any], receive: Any, send: Any) -> None:
    from starlette.websockets import WebSocket, WebSocketDisconnect

    websocket = WebSocket(scope, receive, send)
    await websocket.accept()
    try:
        while True:
            await websocket.send_bytes(await websocket.receive_bytes())
    except WebSocketDisconnect:
        pass


async def _answer(message: dict[str, Any], send: Any) -> bool:
    if message["type"] == "websocket.disconnect":
        return False
    await send({"type": "websocket.send", "text": message["text"]})
    return True


_CONVERSATIONS: dict[str, Any] = {"echo": _echo, "busy": _busy, "polling": _polling, "deaf": _deaf, "starlette": None}


def shared_list(clients: int) -> Callable[..., Awaitable[None]]:
    """Appends each text, whoever sent it, to one list; says the whole list, joined by blanks, to the last of so many."""
    texts: list[str] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await take_part(receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            texts.append(message["text"])
            if len(texts) == clients:
                await send({"type": "websocket.send", "text": " ".join(texts)})

    return app


async def lives_through_flow_errors(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Starlette's echo of binary messages, with the workaround: catch the flow error and receive again."""
    if scope["type"] == "lifespan":
        await take_part(receive, send)
        return
    from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

    websocket = WebSocket(scope, receive, send)
    await websocket.accept()
    while True:
        try:
            data = await websocket.receive_bytes()
        except WebSocketDisconnect:
            return
        except RuntimeError as exc:
            states = (websocket.client_state, websocket.application_state)
            if str(exc) != FLOW_ERROR or states != (WebSocketState.CONNECTED, WebSocketState.CONNECTED):
                raise
            continue
        await websocket.send_bytes(data)


def parting(size: int) -> Callable[..., Awaitable[None]]:
    """Sends one binary message of `size` bytes and closes with 1000; what the client says, it does not ask for."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await take_part(receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": (b"0123456789" * (size // 10 + 1))[:size]})
        await send({"type": "websocket.close", "code": 1000})

    return app
