"""What an environment is lent of ours: a directory of links, put on the path of the process that searches there.

Nothing of ours is installed in an environment: it holds the server's world and nothing else, so nothing of ours can
conflict with it, and a change here is a change there. The directory has two parts:

- `ours`: links to the packages `sim`, `models` and `scenarios`, with this distribution's entry points beside them;
- `clients`: links to the h11, h2 and wsproto that are installed *here*. Scripted clients run on these, whatever the server
  under test brings: the subject's version changes, its clients do not. `begin` sees to it.

It lies in the cache, named by what it links to, and is never changed: two installations of asgi-sim have two.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from models.environments.make import cache_directory
from sim.errors import UsageError

OURS = ("sim", "models", "scenarios")
CLIENTS = ("h11", "h2", "hpack", "hyperframe", "wsproto")
DISTRIBUTION = "asgi-sim"
FILES = ("METADATA", "entry_points.txt")


def door() -> Path:
    """The directory, newly made if it is not there.

    Raises:
        UsageError: it cannot be made.
    """
    ours = metadata.distribution(DISTRIBUTION)
    links = {f"ours/{name}": str(_home(name)) for name in OURS}
    links |= {f"clients/{name}": str(_home(name)) for name in CLIENTS}
    info = f"ours/{DISTRIBUTION.replace('-', '_')}-{ours.version}.dist-info"
    files = {f"{info}/{name}": ours.read_text(name) or "" for name in FILES}
    digest = hashlib.sha256(json.dumps([links, files], sort_keys=True).encode()).hexdigest()[:12]
    place = cache_directory() / "doors" / digest
    if not place.exists():
        try:
            _make(place, links, files)
        except OSError as exc:
            raise UsageError(
                f"nothing can be kept under {place.parent}: {exc}. Set ASGI_SIM_CACHE to a directory of your own."
            ) from exc
    return place


def _home(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not places:
        raise UsageError(f"the package {package} has no directory here, so no environment can be lent it.")
    return Path(places[0]).resolve()


def _make(place: Path, links: dict[str, str], files: dict[str, str]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=place.parent))
    for name, target in links.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).symlink_to(target)
    for name, text in files.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text(text)
    with contextlib.suppress(OSError):  # another process was first
        os.rename(made, place)
    shutil.rmtree(made, ignore_errors=True)
