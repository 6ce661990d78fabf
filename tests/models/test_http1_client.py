"""The scripted HTTP/1.1 client: whatever a server answers, a script gets a response or is told that there is none."""

from __future__ import annotations

import pytest

from models.http1 import HttpClient, HttpCutOff, HttpRequest, HttpResponse
from sim import Connection, Settings, World

from .worlds import alive, play

ADDRESS = ("127.0.0.1", 8000)
pytestmark = pytest.mark.usefixtures("worlds")


def against(client, *replies):
    """Play a client against a server that answers each request with the next of `replies`; "fin" and "rst" end it."""
    results = []
    requests = []

    def scene(world):
        kernel = world.kernel
        listener = kernel.listen(kernel.bind(ADDRESS), 10)

        async def server(host):
            while not listener.readable:
                await host.sleep(0.001)
            connection = Connection(host, listener.accept())
            for reply in replies:
                requests.append(await connection.receive())
                for part in reply if isinstance(reply, list) else [reply]:
                    if part == "fin":
                        connection.shut_write()
                    elif part == "rst":
                        connection.abort()
                    elif isinstance(part, float):
                        await host.sleep(part)
                    else:
                        connection.send(part)
            await host.sleep(100.0)

        async def follow(host):
            http = HttpClient(host)
            await http.connect(ADDRESS)
            results.append(await client(http))
            http.close()

        world.start_script("server", server, daemon=True)
        world.start_script("client", follow)

    with World(settings=Settings(latency=(0.0, 0.0), horizon=300.0)) as world:
        world.run(scene)
        return results[0], [e.read for e in world.trace.of(HttpCutOff)], requests, world.trace


def once(**options):
    async def client(http):
        return await http.request("/", **options)

    return client


@pytest.mark.parametrize(
    ("reply", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        ([b"HTTP/1.1 200 OK\r\n\r\n", 0.1, b"until the ", 0.1, b"end", "fin"], 200, b"until the end"),
        (
            [
                b"HTTP/1.1 100 Continue\r\n\r\n",
                b"HTTP/1.1 103 Early Hints\r\n\r\n",
                0.1,
                b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n",
            ],
            404,
            b"",
        ),
        ([b"HTTP/1.1 200 OK\r\ncontent-", 0.1, b"length: 2\r\n\r\no", 0.1, b"k"], 200, b"ok"),
    ],
)
def test_a_response(reply, status, body):
    response, cut, _, trace = against(once(), reply)
    assert (response.status, response.body, cut) == (status, body, [])
    assert [(e.status, e.body) for e in trace.of(HttpResponse)] == [(status, body)]


@pytest.mark.parametrize(
    ("reply", "how"),
    [
        ("fin", "closed before the response"),
        ("rst", "reset"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "fin"], "received 5 bytes, expected 9"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", 0.1, "rst"], "reset"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", "fin"], "incomplete chunked read"),
        (b"SSH-2.0-nonsense\r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "without a pending proposal"),
    ],
)
def test_no_response(reply, how):
    response, cut, _, _ = against(once(), reply)
    assert response is None
    assert len(cut) == 1
    assert how in cut[0]


def test_an_answer_that_does_not_come_in_time():
    response, cut, _, trace = against(once(within=3.0), [])
    assert response is None
    assert cut == ["the answer does not come"]
    assert trace.events[-1].time == pytest.approx(3.0, abs=1.1)


def test_requests_as_they_are_sent():
    response, _, requests, trace = against(
        once(method="PUT", headers=[("x-own", "1")], body=b"abc"), b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    )
    assert requests == [b"PUT / HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nx-own: 1\r\ncontent-length: 3\r\n\r\nabc"]
    assert [(e.method, e.target) for e in trace.of(HttpRequest)] == [("PUT", "/")]
    assert response.header(b"content-length") == b"0"


def test_keep_alive_until_the_server_has_enough():
    async def client(http):
        return [await http.request(f"/{n}") for n in range(3)]

    keep = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    responses, cut, requests, _ = against(client, keep, keep.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    assert [r and r.status for r in responses] == [200, 200, None]
    assert len(requests) == 2
    assert cut == ["it cannot be used for another request"]


def test_a_server_that_has_gone_before_the_request():
    async def client(http):
        await http.request("/1")
        await http.host.sleep(1.0)
        return await http.request("/2")

    response, cut, _, _ = against(client, [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 0.1, "rst"])
    assert response is None
    assert cut in (["ConnectionResetError"], ["reset"])


def test_nobody_listens():
    async def client(host, server):
        http = HttpClient(host)
        with pytest.raises(ConnectionRefusedError):
            await http.connect(("127.0.0.1", 81))

    play("reference", alive, client)
