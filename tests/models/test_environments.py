"""Environments for subjects: what is installed, what is lent, why it could not, and two real ones from the index."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import models.http1
import sim
from models.environments import make as making
from models.environments import prepare as preparing
from models.environments.door import door
from models.environments.make import MARKER, Environment, cached, parse_requirement
from models.environments.prepare import NEEDS, prepare, to_install
from models.environments.reason import reason
from sim import UsageError
from sim.cli import cli

# What is installed.


@pytest.mark.parametrize(
    ("requirement", "installed"),
    [
        ("uvicorn==0.20.0", ["uvicorn==0.20.0", "httptools", "websockets"]),
        ("uvicorn[h11]==0.20.0", ["uvicorn==0.20.0", "h11", "websockets"]),
        ("uvicorn[h11,wsproto]<0.30", ["uvicorn<0.30", "h11", "wsproto"]),
        ("uvicorn[websockets-sansio]", ["uvicorn", "websockets", "httptools"]),
        ("Hypercorn==0.14.4", ["hypercorn==0.14.4"]),
        ("somebodys-server[fast]==1", ["somebodys-server[fast]==1"]),
    ],
)
def test_a_server_is_installed_with_the_parsers_that_it_is_meant_to_use(requirement, installed):
    assert to_install(parse_requirement(requirement)) == installed


@pytest.fixture
def made(monkeypatch, tmp_path):
    """What would be installed; nothing is."""
    monkeypatch.setenv("ASGI_SIM_CACHE", str(tmp_path))
    calls = []

    def make(requirements, *, python, needs, say):
        calls.append((requirements, python, needs))
        return Environment(tmp_path, "3.11.7", {})

    monkeypatch.setattr(preparing, "make", make)
    return calls


def test_what_is_beside_takes_the_place_of_what_the_server_would_bring(made, tmp_path):
    place = prepare(
        "uvicorn[h11,wsproto]==0.15.0", model=False, also=("H11==0.9.0", "starlette==0.38.2"), python="3.10"
    )
    assert made == [(["uvicorn==0.15.0", "H11==0.9.0", "starlette==0.38.2", "wsproto<1.1"], "3.10", NEEDS)]
    assert place.command[0] == str(tmp_path / "bin" / "python")
    assert place.command[-1] == str(door())


@pytest.mark.parametrize(
    ("server", "also", "installed"),
    [
        ("uvicorn[h11,wsproto]==0.52.0", "h11==0.9.0", ["uvicorn==0.52.0", "h11==0.9.0", "wsproto<1.1"]),
        ("uvicorn[h11,wsproto]==0.52.0", "h11<0.10", ["uvicorn==0.52.0", "h11<0.10", "wsproto<1.1"]),
        ("uvicorn[h11,wsproto]==0.52.0", "h11<0.11", ["uvicorn==0.52.0", "wsproto", "h11<0.11"]),
        ("uvicorn[h11,wsproto]==0.52.0", "h11==0.14.0", ["uvicorn==0.52.0", "wsproto", "h11==0.14.0"]),
        ("uvicorn[h11,websockets]==0.52.0", "h11==0.9.0", ["uvicorn==0.52.0", "websockets", "h11==0.9.0"]),
        ("hypercorn==0.14.0", "h11==0.9.0", ["hypercorn==0.14.0", "h11==0.9.0", "wsproto<1.1"]),
        ("hypercorn==0.14.0", "h11>=0.9", ["hypercorn==0.14.0", "h11>=0.9"]),
    ],
)
def test_an_old_h11_gets_the_wsproto_that_goes_with_it(made, server, also, installed):
    prepare(server, model=False, also=(also,))
    assert made[0][0] == installed


def test_a_wsproto_that_was_asked_for_is_left_as_it_is(made):
    prepare("uvicorn[h11,wsproto]==0.52.0", model=False, also=("h11==0.9.0", "wsproto==1.2.0"))
    assert made[0][0] == ["uvicorn==0.52.0", "h11==0.9.0", "wsproto==1.2.0"]


def test_a_model_needs_no_server(made):
    prepare("granian==1.4.1", model=True, also=("starlette==0.38.2",))
    prepare("granian==1.4.1", model=True)
    assert [requirements for requirements, *_ in made] == [["starlette==0.38.2"], [NEEDS[0]]]


def cache(directory, name, python, **packages):
    place = directory / "envs" / name
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").touch()
    (place / MARKER).write_text(json.dumps({"python": python, "requirements": [], "packages": packages}))
    return place


def test_a_schedule_goes_to_any_environment_with_its_versions(made, monkeypatch, tmp_path):
    here = "%d.%d.%d" % sys.version_info[:3]
    ours = {"attrs": "1", "networkx": "1", "packaging": "1", "starlette": "1"}
    versions = {"uvicorn": "0.20.0", "h11": "0.14.0"}
    cache(tmp_path, "a-for-a-replay-on-a-real-process", here, **versions)
    cache(tmp_path, "b-of-another-python", "3.1.0", **ours, **versions)
    cache(tmp_path, "c-of-another-h11", here, **ours, **{**versions, "h11": "0.15.0"})
    (cache(tmp_path, "d-that-was-not-finished", here, **ours, **versions) / MARKER).unlink()
    assert cached(here, versions, NEEDS) is None
    prepare("uvicorn[h11,wsproto]==0.20.0", model=False, versions=versions)
    assert made[0][0] == ["uvicorn==0.20.0", "h11", "wsproto", "uvicorn==0.20.0", "h11==0.14.0"]
    right = cache(tmp_path, "e", here, **ours, H11="0.14.0", Uvicorn="0.20.0")
    assert cached(here, versions, NEEDS).directory == right
    place = prepare("uvicorn[h11,wsproto]==0.20.0", model=False, versions=versions)
    assert place.environment.directory == right
    assert len(made) == 1


# What is lent.


def test_the_door_links_to_ours_and_is_made_once(monkeypatch, tmp_path):
    monkeypatch.setenv("ASGI_SIM_CACHE", str(tmp_path))
    place = door()
    assert place == door()
    assert (place / "ours" / "sim").resolve() == Path(sim.__file__).resolve().parent
    assert (place / "clients" / "h11").resolve() == Path(models.http1.h11.__file__).resolve().parent
    assert sorted(p.name for p in (place / "clients").iterdir()) == ["h11", "h2", "hpack", "hyperframe", "wsproto"]
    (info,) = (place / "ours").glob("*.dist-info")
    assert "[asgi_sim.scenarios]" in (info / "entry_points.txt").read_text()
    assert list(place.parent.iterdir()) == [place]


def test_a_door_that_another_process_has_made_meanwhile_is_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("ASGI_SIM_CACHE", str(tmp_path))
    place = door()
    monkeypatch.setattr(Path, "exists", lambda _self: False)
    assert door() == place
    assert list(place.parent.iterdir()) == [place]


def test_a_door_that_cannot_be_made(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ASGI_SIM_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="nothing can be kept under .*Set ASGI_SIM_CACHE"):
        door()


BIND = """
import sys
sys.path.insert(0, sys.argv[1])
from models.environments.begin import bind
bind(sys.argv[2] + "/clients")
import h11, wsproto, models.http1, models.opening, models.reference.websocket
print(h11.__file__, models.http1.h11.__file__, models.opening.h11.__file__)
print(wsproto.__file__, models.reference.websocket.wsproto.__file__, models.opening.client_extensions_handshake.__code__.co_filename)
print(sys.modules["asgi_sim_clients.h11"] is models.http1.h11, "uvicorn" in sys.modules, "hypercorn" in sys.modules)
"""


def test_clients_have_their_own_libraries_and_the_server_has_the_environments(monkeypatch, tmp_path):
    monkeypatch.setenv("ASGI_SIM_CACHE", str(tmp_path))
    old = tmp_path / "old"
    for name in ("h11", "wsproto"):
        (old / name).mkdir(parents=True)
        (old / name / "__init__.py").write_text("")
    ran = subprocess.run(
        [sys.executable, "-c", BIND, str(old), str(door())], capture_output=True, text=True, check=True
    )
    *files, facts = ran.stdout.splitlines()
    clients = door() / "clients"
    assert [[Path(file).parent for file in line.split()] for line in files] == [
        [old / "h11", clients / "h11", clients / "h11"],
        [old / "wsproto", clients / "wsproto", clients / "wsproto"],
    ]
    assert facts == "True False False"


# Why it could not.

CONFLICT = """\
Collecting starlette==0.38.2
INFO: pip is looking at multiple versions of starlette to determine which version is compatible.

The conflict is caused by:
    The user requested anyio==2.0.0
    starlette 0.38.2 depends on anyio<5 and >=3.4.0

To fix this you could try to:
1. loosen the range of package versions you've specified

ERROR: Cannot install anyio==2.0.0 and starlette==0.38.2 because these package versions have conflicting dependencies.
ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/dependency-resolution/
"""

BUILD = """\
  error: subprocess-exited-with-error
  × Building wheel for httptools (pyproject.toml) did not run successfully.
  │ exit code: 1
  ╰─> [45 lines of output]
      building 'httptools.parser.parser' extension
      httptools/parser/parser.c:212:12: fatal error: longintrepr.h: No such file or directory
      compilation terminated.
      error: Command '['gcc', '-Wsign-compare']' returned non-zero exit status 1.
      [end of output]
  note: This error originates from a subprocess, and is likely not a problem with pip.
  ERROR: Failed building wheel for httptools
ERROR: Could not build wheels for httptools, which is required to install pyproject.toml-based projects
"""


def test_requirements_that_contradict_one_another():
    assert reason(CONFLICT) == (
        "pip says: ERROR: Cannot install anyio==2.0.0 and starlette==0.38.2 because these package versions have "
        "conflicting dependencies. The conflict: The user requested anyio==2.0.0; starlette 0.38.2 depends on anyio<5 "
        "and >=3.4.0. Ask for versions that go together, or leave one of them out."
    )


def test_a_build_that_fails_is_told_by_the_compilers_first_error():
    assert reason(BUILD) == (
        "pip says: ERROR: Failed building wheel for httptools ERROR: Could not build wheels for httptools, which is "
        "required to install pyproject.toml-based projects The build says: httptools/parser/parser.c:212:12: fatal "
        "error: longintrepr.h: No such file or directory The likeliest cause is a release that is older than this "
        "interpreter. Take a later one (--with), or an older --python."
    )


def test_versions_for_other_pythons_are_no_reason():
    said = reason(
        "ERROR: Ignored the following versions that require a different python version: 3.7 Requires-Python >=3.12\n"
        "ERROR: Could not find a version that satisfies the requirement starlette==9 (from versions: 0.1, 0.2)\n"
        "ERROR: No matching distribution found for starlette==9\n",
        "installing uvicorn==0.20.0 starlette==9",
    )
    assert "Ignored" not in said
    assert "(from versions: 0.1, 0.2)" in said


def test_the_versions_shown_are_those_around_the_one_of_this_distribution():
    listed = ", ".join(f"0.{n}" for n in range(40))
    line = f"ERROR: Could not find a version that satisfies the requirement b==0.30.5 (from versions: {listed})"
    assert "(from versions: …, 0.25, 0.26, 0.27, 0.28, 0.29, 0.30, 0.31, " in reason(
        line, "installing a==0.1 b==0.30.5"
    )


# From the package index.

OLD = "uvicorn[h11,websockets-sansio]==0.52.0"
BROKEN_THEN = {"uvicorn[h11,wsproto]==0.15.0": {"close-handshake"}}
"""It stops reading while a text waits for an application, and so never sees the Close behind it if that one is deaf."""


def command(*arguments, code):
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == code, result.output
    return result


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("python", [None, "3.10"])
@pytest.mark.parametrize(
    ("server", "beside"),
    [
        ("uvicorn[h11,wsproto]==0.15.0", ()),
        ("uvicorn[h11,wsproto]==0.52.0", ("h11==0.9.0",)),
        ("uvicorn[h11,wsproto]==0.52.0", ("websockets==14.1", "starlette==0.38.2")),
        ("uvicorn[h11,websockets]==0.52.0", ("websockets==14.1", "starlette==0.38.2")),
        ("hypercorn==0.14.0", ()),
    ],
)
def test_old_versions_play_whole_stories(server, beside, python):
    place = [option for version in beside for option in ("--with", version)]
    place += ["--python", python] if python else []
    (hello,) = json.loads(command("check", "hello", "--server", server, *place, "--json", code=0).stdout)["subjects"]
    assert (hello["verdict"], hello["complete"]) == ("holds", True)
    story = ("check", "unsolicited_pong", "--max-runs", "60", "--json")
    broken = BROKEN_THEN.get(server, set())
    (pong,) = json.loads(command(*story, "--server", server, *place, code=1 if broken else 0).stdout)["subjects"]
    assert pong["runs"] == 60
    assert {d["invariant"] for d in pong["discoveries"]} == broken


@pytest.mark.real
def test_an_old_version_loses_what_the_new_one_delivers():
    story = ("check", "large_message_then_close", "--workers", "1", "--param", "size=400000", "--json")
    (old,) = json.loads(command(*story, "--server", OLD, code=1).stdout)["subjects"]
    (new,) = json.loads(command(*story, "--server", "uvicorn[h11,websockets-sansio]", code=0).stdout)["subjects"]
    assert old.keys() == new.keys()
    assert (old["server"], old["kind"], old["verdict"], old["complete"]) == (OLD, "real", "violated", True)
    assert (new["verdict"], new["complete"]) == ("holds", True)
    (loss,) = old["discoveries"]
    assert loss["invariant"] == "sent-before-close-arrives"
    assert loss["message"] == "the application sent a message of 400,000 bytes, and the client got no whole one"
    schedule = sim.Schedule.from_blob(loss["schedule"])
    assert schedule.versions["uvicorn"] == "0.52.0"
    again = command("replay", loss["schedule"], "--trace", code=1)
    assert "installing" not in again.stderr
    assert '"event":"tcp.closed","actor":"client"' in again.stdout
    assert again.stdout == command("replay", loss["schedule"], "--trace", code=1).stdout


def test_the_needs_of_an_environment_are_part_of_its_name(monkeypatch, tmp_path):
    monkeypatch.setenv("ASGI_SIM_CACHE", str(tmp_path))
    built = []
    monkeypatch.setattr(making, "_build", lambda directory, *_: built.append(directory))
    for needs in (("attrs",), ("attrs", "networkx")):
        with pytest.raises(UsageError, match="vanished"):
            making.make(["uvicorn==0.20.0"], needs=needs)
    assert len(set(built)) == 2
