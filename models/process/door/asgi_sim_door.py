"""The module that a real server is told to load: `asgi_sim_door:app`.

This directory is on the server process's PYTHONPATH and holds nothing else. The project itself comes last on its
path, so that the environment's own packages win over whatever lies beside the project.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[3])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

from models.process.inside import build  # noqa: E402

app = build(Path(os.environ["ASGI_SIM_REPLAY"]))
