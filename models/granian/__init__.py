"""A model of Granian's ASGI side, version by version.

Granian is written in Rust and cannot run inside a world. What is modelled is what an application and a client can
notice: when bytes and frames are read, who waits for which lock, what is dropped, which errors come out and what is
logged. The versions differ by rows of `models.granian.behaviour`, nowhere else. It was written from Granian's source
at 1.4.1 and from measurements on the wheel of 1.3.2, whose WebSocket code is the same, and it is checked against the
wheels by replaying its counterexamples on them (`asgi-sim replay BLOB --real granian==1.3.2`).

From the outside in: `server` (the worker, its connections, its lifespan), `connection` (hyper's part), `http` and
`websocket` (what the application's `receive` and `send` are bound to), `frames` (tungstenite's part), `native` (tasks
on native threads, and how their results reach Python).

Not modelled: RSGI, `--opt`, HTTP/2, TLS, more than one worker, access logs, limits on sizes, and
`http.response.pathsend`, which for that reason is not offered in the scope either. An accept takes effect at the
instant of the call; in Granian some thread switches later. A body arrives in larger pieces than hyper makes of it, and
a client that does not read stops a stream earlier than hyper's own buffer would. Header lines that HTTP forbids end
the connection; Granian leaves them out. When the application cancels at the very instant at which its result is made,
`tokio::select!` throws a coin; here both sides of it are met as two instants.
"""

from models.granian.server import Granian, subject

__all__ = ["Granian", "subject"]
