"""Rows A to E, and the race of `racing_clients`, on the peers: simloop, simloom and async-solipsism.

`tests/benchmarks/test_rows.py` runs it with a Python that has the peers installed, in an environment of its own, and
asks it for one measurement after the other, so that both sides are measured in turns. A line of input is a JSON list:
`["peers"]`, `["row", PEER, ROW, TIMES]` or `["race", PEER, CLIENTS, SEED]`. Each is answered with a line of JSON;
a measurement is CPU seconds of this process.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import math
import sys
import time
from importlib import metadata

import async_solipsism
import programs
import simloom
import simloop
import uvicorn
import websockets


def on_simloop(program, seed=0):
    """In simloop, a program's host is the one that runs the workload."""
    report = simloop.explore(functools.partial(program, "driver"), [seed])
    if report is not None:
        raise RuntimeError(report)


def on_simloom(program, seed=0):
    async def main(world):
        return await program("server")

    simloom.run(main, seed=seed)


def on_solipsism(program, _seed=0):
    loop = async_solipsism.EventLoop()
    try:
        loop.run_until_complete(program("127.0.0.1"))
    finally:
        loop.close()


PEERS = {"simloop": on_simloop, "simloom": on_simloom, "async-solipsism": on_solipsism}


def row(peer, name, times):
    """CPU seconds of so many worlds, one behind the other, and no garbage left behind."""
    program = programs.ROWS[name][0]
    began = time.process_time()
    for _ in range(times):
        PEERS[peer](program)
    spent = time.process_time() - began
    gc.collect()
    return spent


def race(peer, clients, first_seed):
    """Random seeds until every order of so many clients' messages was seen: CPU seconds, and runs."""
    seen = set()
    began = time.process_time()
    runs = 0
    while len(seen) < math.factorial(clients):
        PEERS[peer](functools.partial(racing, clients, seen), first_seed + runs)
        runs += 1
    return time.process_time() - began, runs


async def racing(clients, seen, host):
    """The story of `racing_clients`: connect one after the other, then send one message each, at once."""
    asyncio.get_running_loop().net.set_defaults(latency=(0.0, 0.05))
    order = []
    complete = asyncio.Event()

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            return await programs.application(scope, receive, send)
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            order.append(message["text"])
            if len(order) == clients:
                await send({"type": "websocket.send", "text": " ".join(order)})
                complete.set()

    config = uvicorn.Config(
        application, host=host, port=programs.PORT, http="h11", ws="wsproto", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    address = f"ws://{host}:{programs.PORT}/"
    sockets = [await websockets.connect(address, compression=None, proxy=None) for _ in range(clients)]
    await asyncio.gather(*(socket.send(f"client-{number}") for number, socket in enumerate(sockets, 1)))
    await complete.wait()
    seen.add(tuple(order))
    await asyncio.gather(*(socket.close() for socket in sockets))
    server.should_exit = True
    await serving


def main():
    answers = {
        "peers": lambda: {"python": sys.version.split()[0], **{peer: metadata.version(peer) for peer in PEERS}},
        "row": row,
        "race": race,
    }
    for name in programs.ROWS:
        for peer in PEERS:
            row(peer, name, 1)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        print(json.dumps(answers[what](*arguments)), flush=True)


if __name__ == "__main__":
    main()
