"""The documents say what is so: links, file names, examples, and the numbers of the demo's table."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sim
from sim.registry import find_scenario
from sim.search.schedule import python_version

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
DEMO = README.partition("<!-- demo -->")[2].partition("<!-- /demo -->")[0]
ROW = re.compile(
    r"^(?P<server>\S+) +(?P<kind>real|model) +(?P<verdict>\w+) +(?P<runs>[\d,]+) +yes +(?P<outcomes>\d+) ", re.M
)

APP = """
async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
"""


def rows() -> dict[str, re.Match[str]]:
    return {match["server"]: match for match in ROW.finditer(DEMO)}


@pytest.mark.parametrize("document", [README, ARCHITECTURE], ids=["README", "ARCHITECTURE"])
def test_links_lead_somewhere(document: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", document)
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_map_names_files_that_exist() -> None:
    table = ARCHITECTURE.partition("| room |")[2].partition("\n\n")[0]
    missing = []
    for line in table.splitlines():
        cells = line.split("|")
        if len(cells) < 4 or "`" not in cells[1]:
            continue
        room = re.findall(r"`([^`]+)`", cells[1])
        missing += [name for name in room if not (ROOT / name).exists()]
        missing += [
            f"{room[0]}/{name}"
            for name in re.findall(r"`([\w.]+\.py)`", cells[3])
            if not (ROOT / room[0] / name).exists()
        ]
    assert missing == []


def test_the_demo_shows_every_subject() -> None:
    assert sorted(rows()) == sorted(find_scenario("unsolicited_pong").servers)
    assert {s for s, row in rows().items() if row["verdict"] == "violated"} == {"granian==1.4.1"}


@pytest.mark.skipif(python_version() != "3.11", reason="the README's numbers were taken on CPython 3.11")
@pytest.mark.parametrize("server", ["granian==1.4.2", "uvicorn[h11,wsproto]", "hypercorn", "reference"])
def test_the_demo_shows_what_the_search_finds(server: str) -> None:
    report = sim.explore("unsolicited_pong", server=server)
    row = rows()[server]
    assert (report.verdict, f"{report.runs:,}", str(report.outcomes)) == (row["verdict"], row["runs"], row["outcomes"])


def test_the_demos_replay_line_replays() -> None:
    blob = re.search(r"asgi-sim replay (sim1\.\S+)", DEMO)
    assert blob is not None
    _, run = sim.replay(blob[1], any_version=True)
    assert "pong-no-flow-error" in [invariant.name for invariant, _ in run.violations]


def test_the_scenario_of_your_own_runs(tmp_path: Path) -> None:
    example = README.partition("```python\n# my_story.py")[2].partition("```")[0]
    (tmp_path / "my_story.py").write_text("# my_story.py" + example, encoding="utf-8")
    (tmp_path / "my_app.py").write_text(APP, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "sim",
        "check",
        "my_story:scenario",
        "--server",
        "hypercorn",
        "--server",
        "reference",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "holds" in done.stdout


def test_the_hypothesis_example_runs() -> None:
    example = README.partition("```python\nfrom hypothesis")[2].partition("```")[0]
    assert "deadline=None" in example
    namespace: dict[str, Any] = {}
    source = "from hypothesis" + example.replace("deadline=None", "deadline=None, database=None, max_examples=3")
    exec(compile(source, "README.md", "exec"), namespace)
    namespace["test_a_pong_is_harmless_however_patient_the_client"]()


def test_every_command_line_in_the_readme_is_understood() -> None:
    lines = re.findall(r"^asgi-sim (.+?)(?: {2,}#.*)?$", README, re.M)
    assert lines
    help_text = subprocess.run(
        [sys.executable, "-m", "sim", "check", "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    replay_help = subprocess.run(
        [sys.executable, "-m", "sim", "replay", "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    for line in lines:
        for option in re.findall(r"--[a-z-]+", line):
            assert option in (replay_help if line.startswith("replay") else help_text), line


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_execute(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    client.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    assert any("image/png" in out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", ()))
