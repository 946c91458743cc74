"""`preplay` itself, `preplay tasks`, `preplay doctor`, and the names that the package hands on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import envs
import planners
import preplay as package
from agent import preset
from preplay import doctor, provenance
from preplay.cli import COMMANDS, parse
from preplay.shipped import shipped
from preplay.train import Train
from tests.envs import own


def test_without_arguments_it_says_what_there_is(preplay):
    code, out, err = preplay()
    assert (code, err) == (0, "")
    assert all(name in out for name in COMMANDS)
    assert preplay("--help")[1] == out
    assert preplay("--version")[1] == f"preplay {package.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_reads_well(preplay, command):
    code, out, err = preplay(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: preplay {command}")
    assert "--json" in out
    assert "{None}|" not in out
    assert "STR " not in out.split("\n")[0]


def test_tasks(preplay):
    code, out, _ = preplay("tasks")
    assert code == 0
    listed = json.loads(preplay("tasks", "--json")[1])["tasks"]
    assert [task["name"] for task in listed] == [task.name for task in envs.tasks()]
    assert all(task["name"] in out for task in listed)
    assert {task["name"] for task in listed if task["checkpoint"]} == set(shipped())


def test_doctor(preplay):
    code, out, err = preplay("doctor", "--json")
    found = json.loads(out)
    assert (code, err) == (0 if found["healthy"] else 1, "")
    checks = {check["name"]: check for check in found["checks"]}
    assert list(checks) == [
        "versions", "disk", "suite", "gymnasium", "rendering", "device", "threads", "agents", "speed",
    ]  # fmt: skip
    assert not [check for check in checks.values() if check["status"] == "broken"]
    plans = checks["speed"]["values"]["milliseconds"]
    assert list(plans) == ["tiny", "small", "base"]
    # The sizes of tiny and small differ by less than what a busy machine does to either.
    assert 0 < max(plans["tiny"]["p50"], plans["small"]["p50"]) < plans["base"]["p50"]
    assert checks["versions"]["values"]["installed"]["mujoco"].startswith("3.")


def test_doctor_says_what_to_do_about_a_version_that_cannot_work(preplay, monkeypatch):
    honest = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: "4.0.0" if name == "mujoco" else honest(name))
    monkeypatch.setattr(doctor, "speed", lambda: doctor.Check("speed", doctor.OK, ""))
    code, out, _ = preplay("doctor")
    assert code == 1
    assert "mujoco 4.0.0 (needed: <4,>=3.17)" in out
    assert "constraints.txt" in out
    assert "broken: versions" in out


def test_doctor_knows_a_package_by_either_spelling(monkeypatch):
    honest = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: "1.0.99" if name == "dm-control" else honest(name))
    assert "dm-control 1.0.99 (tested: 1.0." in doctor.versions().found


def test_doctor_lives_through_what_is_broken(preplay, monkeypatch, no_backend):
    def broken(*arguments, **options):
        print("noise of a broken package")
        raise ImportError("cannot import name 'x'\nmore lines")

    monkeypatch.setattr(envs, "make", broken)
    monkeypatch.setattr(doctor, "speed", lambda: doctor.Check("speed", doctor.OK, ""))
    code, out, _ = preplay("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert code == 1
    assert checks["suite"]["status"] == checks["gymnasium"]["status"] == "broken"
    assert checks["suite"]["found"] == "ImportError: cannot import name 'x'"
    assert checks["rendering"]["status"] == "note"
    assert checks["rendering"]["advice"].startswith("install one")


def command(folder, *arguments, **variables):
    """A command in a process of its own, started in a folder, as the installed script starts it."""
    script = Path(sys.executable).with_name("preplay")
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    return subprocess.run(
        [script, *arguments], check=False, capture_output=True, text=True, cwd=folder, env=environment
    )


def test_doctor_says_which_package_is_broken(tmp_path):
    (tmp_path / "mujoco.py").write_text("raise ImportError('libmujoco.so.3 is gone')")
    done = command(tmp_path, "doctor", "--json", PYTHONPATH=tmp_path)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert (done.returncode, done.stderr.count("Traceback")) == (1, 0)
    assert "libmujoco.so.3 is gone" in checks["suite"]["found"]
    assert checks["versions"]["status"] != "broken"


def test_a_module_in_the_users_folder_is_found(tmp_path):
    shutil.copy(own.__file__, tmp_path / "robots_of_mine.py")
    done = command(tmp_path, "run", "robots_of_mine:Own-v0", "--planner", "random", "--episodes", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["returns"] == [20.0]


def test_a_run_that_fails_before_it_begins_leaves_nothing_behind(tmp_path):
    options = ["--preset", "tiny", "--learner.batch-size", "100000", "--learner.horizon", "1000", "--steps", "60"]
    done = command(tmp_path, "train", "Reacher-v5", *options, "--experience", "nowhere")
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_commit_is_told_only_of_our_own_repository(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.commit() is None


def test_the_public_names_are_handed_on():
    env = package.make_env("cartpole-balance")
    assert env.action_space.shape == (1,)
    assert package.make_planner("cem", horizon=2, action_dim=1)
    assert package.load == package.Agent.load
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = package.nothing_of_ours


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, preplay; print(any(x in sys.modules for x in ('torch', 'mujoco', 'gymnasium')))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_of_an_option_that_is_given_twice_the_last_one_counts():
    given = ["walker-run", "--preset", "tiny", "--preset=base"]
    assert parse(Train, "train", given).config == preset("base")


def test_a_planner_with_sizes_of_its_own_is_trained_with_them():
    own = planners.get("gradient").Config
    for more, samples in (([], own.samples), (["--planning.samples", "5"], 5)):
        planning = parse(Train, "train", ["cheetah-run", "--planning.planner", "gradient", *more]).config.planning
        assert (planning.planner, planning.samples, planning.iterations) == ("gradient", samples, own.iterations)
