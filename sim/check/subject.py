"""The server under test, as `sim` sees it: a name, a kind, and versions. What it can do is the protocol world's."""

from __future__ import annotations

from typing import Any, Protocol


class Subject(Protocol):
    """A server, real or modelled.

    Attributes:
        requirement: its name, in the packaging standard's syntax, such as `uvicorn[h11,wsproto]`.
        kind: "real" if the server's own code runs, "model" if a model of it does.
        versions: the version of each distribution that its behaviour depends on.
    """

    @property
    def requirement(self) -> str:
        """What names it."""
        ...

    @property
    def kind(self) -> str:
        """Real or model."""
        ...

    @property
    def versions(self) -> dict[str, str]:
        """What a schedule's meaning depends on, besides Python."""
        ...

    def serve(self, world: Any, application: Any, **options: Any) -> Any:
        """Start it in a world; the scenario knows what it may ask for."""
        ...
