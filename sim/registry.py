"""Where names are found: scenarios and subjects by entry point, or a scenario as `module:attribute`.

`sim` imports neither models nor scenarios. Whoever installs a package with entry points in the groups
`asgi_sim.scenarios` (a `Scenario` each) or `asgi_sim.subjects` (a callable from a requirement to a `Subject`, named
after the distribution) extends the tool.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from sim.check.scenario import Scenario
from sim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.check.subject import Subject

SCENARIOS = "asgi_sim.scenarios"
SUBJECTS = "asgi_sim.subjects"
REAL = "asgi_sim.real"
ENVIRONMENTS = "asgi_sim.environments"
OURS = ("models", "scenarios")
"""Packages of ours whose names are so common that another may be found in their place."""


def scenario_names() -> list[str]:
    """Every scenario that is installed."""
    return sorted({e.name for e in metadata.entry_points(group=SCENARIOS)})


def subject_names() -> list[str]:
    """Every distribution that can be a subject."""
    return sorted({e.name for e in metadata.entry_points(group=SUBJECTS)})


def find_scenario(name: str) -> Scenario:
    """The scenario of that name, or at that `module:attribute`.

    Raises:
        UsageError: there is none; the message lists those that there are.
    """
    if ":" in name:
        found = _import(name)
    else:
        entry = _entry(SCENARIOS, name)
        if entry is None:
            raise UsageError(
                f"there is no scenario {name!r}. There are: {', '.join(scenario_names())}. One of your own is named "
                "module:attribute."
            )
        found = _load(entry)
    if not isinstance(found, Scenario):
        raise UsageError(f"{name!r} is a {type(found).__name__}, not a sim.Scenario.")
    return attrs.evolve(found, name=name) if ":" in name else found


def find_subject(requirement: str) -> Subject:
    """The subject that a requirement names.

    Raises:
        UsageError: no such subject, combination or version; the message lists what there is.
    """
    try:
        parsed = Requirement(requirement)
    except InvalidRequirement as exc:
        raise UsageError(
            f"the server {requirement!r} is not a requirement ({str(exc).splitlines()[0]}). Examples: "
            "uvicorn[h11,wsproto], hypercorn, granian==1.4.1, reference."
        ) from None
    if parsed.url is not None or parsed.marker is not None:
        raise UsageError(f"the server {requirement!r} has a URL or a marker: a name, extras and a version are enough.")
    entry = _entry(SUBJECTS, canonicalize_name(parsed.name))
    if entry is None:
        raise UsageError(f"there is no server {parsed.name!r}. There are: {', '.join(subject_names())}.")
    subject: Subject = _load(entry)(parsed)
    return subject


def find_confirm() -> Callable[..., Any]:
    """What replays a run on a real server: the installed one in the group `asgi_sim.real`, or else our own.

    Raises:
        UsageError: it cannot be imported.
    """
    ours = metadata.EntryPoint("confirm", "models.process:confirm", REAL)
    confirm: Callable[..., Any] = _load(_entry(REAL, "confirm") or ours)
    return confirm


def find_prepare() -> Callable[..., Any]:
    """What makes environments for subjects: the installed one in the group `asgi_sim.environments`, or else our own.

    Raises:
        UsageError: it cannot be imported.
    """
    ours = metadata.EntryPoint("prepare", "models.environments.prepare:prepare", ENVIRONMENTS)
    prepare: Callable[..., Any] = _load(_entry(ENVIRONMENTS, "prepare") or ours)
    return prepare


def name_of(scenario: Scenario) -> str | None:
    """By which name another process finds this very scenario, or None."""
    try:
        found = find_scenario(scenario.name)
    except UsageError:
        return None
    same = attrs.evolve(found, name=scenario.name)
    ours, theirs = (attrs.asdict(s, recurse=False) for s in (scenario, same))
    return scenario.name if ours == theirs else None


def _entry(group: str, name: str) -> metadata.EntryPoint | None:
    return next(iter(metadata.entry_points(group=group, name=name)), None)


def _load(entry: metadata.EntryPoint) -> Any:
    """What an entry point names.

    Raises:
        UsageError: another package has its place, or it cannot be imported.
    """
    if entry.module.partition(".")[0] in OURS:
        for package in OURS:
            _require_unshadowed(package)
    try:
        found = importlib.import_module(entry.module)
    except UsageError:
        raise
    except Exception as exc:
        raise UsageError(
            f"{entry.name!r} is installed as {entry.value}, and that raised {type(exc).__name__} while it was "
            f"imported: {exc}. The likeliest cause is a package that it needs: pip check names those that are missing."
        ) from exc
    return _attribute(found, entry.module, entry.attr)


def _require_unshadowed(package: str) -> None:
    """Notice a user's own `models` or `scenarios` in the place of ours."""
    loaded = sys.modules.get(package)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(package)
    places = [spec.origin] if spec is not None and spec.origin else list(getattr(loaded or spec, "__path__", ()) or ())
    if loaded is not None and not places:
        places = [getattr(loaded, "__file__", None) or "a module without a file"]
    here = Path(__file__)
    homes = [file.parent.parent / package / "__init__.py" for file in (here.absolute(), here.resolve())]
    if {home.resolve() for home in homes}.isdisjoint(Path(place).resolve() for place in places):
        raise UsageError(
            f"the name {package!r} means {' and '.join(places) or 'nothing'} here, which hides asgi-sim's own package "
            f"of that name, {homes[0].parent}. Start where the other one is not found first: from another directory; "
            "with pytest, as `pytest --import-mode=importlib`, not as `python -m pytest`. Or rename the other one."
        )


def _import(target: str) -> Any:
    """What `module:attribute` names, looked for in the current directory too.

    Raises:
        UsageError: it is malformed, cannot be imported, raises, or has no such attribute.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"{target!r} is not of the form module:attribute, such as stories.checkout:scenario.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module_name)
    except UsageError:
        raise
    except ImportError as exc:
        if str(exc.name).partition(".")[0] in OURS:
            _require_unshadowed(str(exc.name).partition(".")[0])
        raise UsageError(
            f"{target!r} could not be imported: {exc}. Modules are looked for in the current directory first: start "
            "where the module is."
        ) from exc
    except Exception as exc:
        raise UsageError(f"{target!r} raised {type(exc).__name__} while it was imported: {exc}") from exc
    return _attribute(found, module_name, attribute)


def _attribute(module: Any, module_name: str, attribute: str) -> Any:
    found = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"the module {module_name!r} has no attribute {attribute!r}.")
        found = getattr(found, part)
    return found
