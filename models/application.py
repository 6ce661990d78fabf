"""An application by reference, so that the simulator and a real server process can both build it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import attrs

from sim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@attrs.frozen
class Application:
    """An ASGI application named as uvicorn names it, `module:attribute`.

    Attributes:
        target: `module:attribute` of the application, or of a factory if there are arguments.
        arguments: keyword arguments for the factory; JSON types only. None: `target` is the application itself.
        requires: distributions that it needs besides the server, as requirements.
    """

    target: str
    arguments: dict[str, Any] | None = None
    requires: tuple[str, ...] = ()

    def load(self) -> Callable[..., Awaitable[None]]:
        """Import it.

        Raises:
            UsageError: the target is malformed, cannot be imported, has no such attribute, or raises.
        """
        module_name, colon, attribute = self.target.partition(":")
        if not module_name or not colon or not attribute:
            raise UsageError(f"the application {self.target!r} is not of the form module:attribute, such as main:app.")
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as exc:
            raise UsageError(
                f"the application {self.target!r} could not be imported: {exc}. Modules are looked for in the current "
                "directory first: start the command where the module is."
            ) from exc
        except Exception as exc:
            raise UsageError(
                f"the application {self.target!r} raised {type(exc).__name__} while it was imported: {exc}"
            ) from exc
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise UsageError(f"the module {module_name!r} has no attribute {attribute!r}.")
            found = getattr(found, part)
        if self.arguments is not None:
            found = found(**self.arguments)
        if not callable(found):
            raise UsageError(f"the application {self.target!r} is a {type(found).__name__}, which cannot be called.")
        return found  # type: ignore[no-any-return]
