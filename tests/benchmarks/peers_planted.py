"""The same planted bugs on simloop and simloom, with their own random search. Prints one JSON object.

`tests/benchmarks/test_policies.py` runs it with a Python that has simloop and simloom installed, in an environment of its
own. Both get a latency of 0 to 50 ms for each message, which is what makes them reorder anything.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys

import simloom
import simloop

CLIENTS = "abc"
MESSAGES = 5
ZIGZAG = (("b1", "a0"), ("a1", "b2"), ("b3", "a2"), ("a3", "b4"))
LATENCY = (0.0, 0.05)


async def conversation(host: str, port: int = 9000) -> list[str]:
    """The order in which a server gets what three clients send at once."""
    order = []
    everything = asyncio.Event()

    class Listener(asyncio.Protocol):
        def data_received(self, data):
            text = data.decode()
            order.extend(text[i : i + 2] for i in range(0, len(text), 2))
            if len(order) == len(CLIENTS) * MESSAGES:
                everything.set()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Listener, host, port)

    async def client(name):
        transport, _ = await loop.create_connection(asyncio.Protocol, host, port)
        for number in range(MESSAGES):
            transport.write(f"{name}{number}".encode())
        await everything.wait()
        transport.close()

    await asyncio.gather(*(client(name) for name in CLIENTS))
    server.close()
    return order


def depth_of(order):
    """How deep a bug this order shows, at the most."""
    depth = 0
    while depth < len(ZIGZAG) and order.index(ZIGZAG[depth][0]) < order.index(ZIGZAG[depth][1]):
        depth += 1
    return depth


async def on_simloop():
    asyncio.get_running_loop().net.set_defaults(latency=LATENCY)
    return await conversation("driver")


async def on_simloom(world):
    world.net.set_latency(*LATENCY)
    return await conversation("server")


def depths(run, seeds):
    """The depth that each seed's order shows."""
    return [depth_of(run(seed)) for seed in seeds]


def run_simloop(seed):
    orders = []

    async def once():
        orders.append(await on_simloop())

    report = simloop.explore(once, [seed])
    assert report is None, report
    return orders[0]


def run_simloom(seed):
    return simloom.run(on_simloom, seed=seed).value


def medians(run, bound, seeds):
    """Runs to the first find, for each depth: the median over blocks of seeds; one more than `bound` if none."""
    blocks = [depths(run, range(block * bound, (block + 1) * bound)) for block in range(seeds)]
    firsts = [
        [next((number for number, depth in enumerate(block, 1) if depth >= wanted), bound + 1) for block in blocks]
        for wanted in range(1, len(ZIGZAG) + 1)
    ]
    return [statistics.median(found) for found in firsts]


if __name__ == "__main__":
    bound, seeds = int(sys.argv[1]), int(sys.argv[2])
    print(json.dumps({run.__name__[4:]: medians(run, bound, seeds) for run in (run_simloop, run_simloom)}))
