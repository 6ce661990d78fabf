"""Names: those that there are, those that there are not, those that mean something else here."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest

import sim
from sim import registry
from sim.registry import find_scenario, find_subject, scenario_names, subject_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of a user's, which is the current one; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


def entry(monkeypatch: pytest.MonkeyPatch, group: str, name: str, value: str) -> None:
    """Let there be one more entry point."""
    real = metadata.entry_points
    more = metadata.EntryPoint(name, value, group)

    def entry_points(**params: str) -> Any:
        return [*real(**params), *([more] if more.matches(**params) else [])]

    monkeypatch.setattr(registry.metadata, "entry_points", entry_points)


STORY = """
    from sim import Scenario

    scenario = Scenario("mine", "My own story.", lambda world, subject: None, ())

    class Nested:
        scenario = scenario

    something = 7
"""


def test_the_names_that_come_with_the_distribution() -> None:
    assert {"hello", "heartbeat", "unsolicited_pong", "workaround"} <= {*scenario_names()}
    assert {"granian", "hypercorn", "reference", "uvicorn"} <= {*subject_names()}
    assert scenario_names() == sorted(scenario_names())


def test_a_scenario_by_name() -> None:
    assert find_scenario("hello").name == "hello"
    assert find_scenario("hello") is find_scenario("hello")


def test_an_unknown_scenario_lists_those_that_there_are() -> None:
    with pytest.raises(sim.UsageError) as error:
        find_scenario("goodbye")
    assert str(error.value).startswith("there is no scenario 'goodbye'. There are: ")
    assert ", ".join(scenario_names()) in str(error.value)
    assert "module:attribute" in str(error.value)


def test_a_scenario_by_module_and_attribute(here: Path) -> None:
    write(here / "own_story.py", STORY)
    found = find_scenario("own_story:scenario")
    assert found.summary == "My own story."
    # So that its schedules can be replayed.
    assert found.name == "own_story:scenario"
    assert find_scenario("own_story:Nested.scenario").name == "own_story:Nested.scenario"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("own_story:nothing", r"the module 'own_story' has no attribute 'nothing'\."),
        ("own_story:Nested.nothing", r"the module 'own_story' has no attribute 'Nested\.nothing'\."),
        ("own_story:something", r"'own_story:something' is a int, not a sim\.Scenario\."),
        (
            "no_such_story:scenario",
            r"could not be imported: No module named 'no_such_story'.*start where the module is",
        ),
        ("own_story:", r"'own_story:' is not of the form module:attribute, such as stories\.checkout:scenario\."),
        (":scenario", r"is not of the form module:attribute"),
        ("half_story:scenario", r"could not be imported: No module named 'no_such_package'"),
        (
            "bad_story:scenario",
            r"'bad_story:scenario' raised AttributeError while it was imported: .*no attribute 'no'",
        ),
        ("worse_story:scenario", r"'worse_story:scenario' raised SyntaxError while it was imported"),
    ],
)
def test_a_scenario_that_is_not_there(here: Path, target: str, message: str) -> None:
    write(here / "own_story.py", STORY)
    write(here / "half_story.py", "import no_such_package")
    write(here / "bad_story.py", "import sys\nsys.no")
    write(here / "worse_story.py", "def (:")
    with pytest.raises(sim.UsageError, match=message):
        find_scenario(target)


@pytest.mark.parametrize("name", ["hypercorn", "Hypercorn", "HYPERCORN"])
def test_a_subject_by_requirement(name: str) -> None:
    assert find_subject(name).requirement == "hypercorn"


def test_an_unknown_subject_lists_those_that_there_are() -> None:
    with pytest.raises(sim.UsageError) as error:
        find_subject("gunicorn>=20")
    assert str(error.value) == f"there is no server 'gunicorn'. There are: {', '.join(subject_names())}."


@pytest.mark.parametrize("text", ["", "uvicorn[", "uvicorn==", "two words", "-"])
def test_a_subject_that_is_no_requirement(text: str) -> None:
    with pytest.raises(sim.UsageError, match=r"is not a requirement.*Examples: uvicorn\[h11,wsproto\], hypercorn"):
        find_subject(text)


@pytest.mark.parametrize("text", ["hypercorn @ https://example.org/x.whl", 'hypercorn; python_version > "3"'])
def test_a_subject_with_more_than_a_version(text: str) -> None:
    with pytest.raises(sim.UsageError, match="has a URL or a marker"):
        find_subject(text)


def test_names_of_others(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here / "own_story.py", STORY)
    monkeypatch.syspath_prepend(here)
    entry(monkeypatch, registry.SCENARIOS, "mine", "own_story:scenario")
    assert "mine" in scenario_names()
    assert find_scenario("mine").name == "mine"
    entry(monkeypatch, registry.SUBJECTS, "my-server", "own_story:something.bit_length")
    with pytest.raises(TypeError):
        find_subject("My.Server")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("own_story:nothing", r"the module 'own_story' has no attribute 'nothing'\."),
        (
            "no_such_story:scenario",
            r"'mine' is installed as no_such_story:scenario, and that raised ModuleNotFoundError",
        ),
        ("bad_story:scenario", r"that raised ZeroDivisionError while it was imported: division by zero\. .*pip check"),
    ],
)
def test_an_entry_point_that_leads_nowhere(
    here: Path, monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    write(here / "own_story.py", STORY)
    write(here / "bad_story.py", "1 / 0")
    monkeypatch.syspath_prepend(here)
    entry(monkeypatch, registry.SCENARIOS, "mine", value)
    with pytest.raises(sim.UsageError, match=message):
        find_scenario("mine")


def run(here: Path, code: str) -> str:
    """What a fresh interpreter prints that was started in that directory."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=here, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.strip()


ASK = """
    import sim
    try:
        print(sim.explore({!r}, server="hypercorn").verdict)
    except sim.UsageError as exc:
        print(exc)
"""


@pytest.mark.parametrize("name", ["models", "scenarios"])
@pytest.mark.parametrize("package", [False, True])
def test_a_package_of_the_users_that_hides_ours(tmp_path: Path, name: str, package: bool) -> None:
    file = tmp_path / name / "__init__.py" if package else tmp_path / f"{name}.py"
    write(file, "class User: pass")
    text = run(tmp_path, ASK.format("hello"))
    assert text.startswith(f"the name {name!r} means {file} here, which hides asgi-sim's own package of that name, ")
    assert "--import-mode=importlib" in text


def test_a_hidden_package_that_a_scenario_of_the_users_wants(tmp_path: Path) -> None:
    write(tmp_path / "models.py", "class User: pass")
    write(tmp_path / "story.py", "from models.http1 import HttpClient")
    text = run(tmp_path, ASK.format("story:scenario"))
    assert text.startswith(f"the name 'models' means {tmp_path / 'models.py'} here, which hides asgi-sim's own")


def test_a_directory_without_code_hides_nothing(tmp_path: Path) -> None:
    write(tmp_path / "models" / "weights.txt", "")
    assert run(tmp_path, ASK.format("hello")) == "holds"


def test_a_scenario_of_the_users_beside_a_hidden_package_is_found(tmp_path: Path) -> None:
    write(tmp_path / "models.py", "class User: pass")
    write(tmp_path / "story.py", STORY)
    assert run(tmp_path, "from sim.registry import find_scenario\nprint(find_scenario('story:scenario').summary)") == (
        "My own story."
    )


def test_the_public_names_are_imported_when_they_are_asked_for(tmp_path: Path) -> None:
    assert {name for names in sim._HOMES.values() for name in names} == {*sim.__all__}
    assert all(getattr(sim, name).__name__ for name in sim.__all__)
    assert {*sim.__all__} <= {*dir(sim)}
    with pytest.raises(AttributeError, match="module 'sim' has no attribute 'nonsense'"):
        sim.nonsense  # noqa: B018
    code = "import sys, sim\nprint(sorted(m for m in sys.modules if m.startswith('sim.') or m == 'asyncio'))"
    assert run(tmp_path, code) == "[]"
