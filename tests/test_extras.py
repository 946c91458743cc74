"""Acting needs few packages and little time; the commands say what they lack."""

import os
import re
import resource
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    re.match(r"[\w-]+", text)[0].lower().replace("_", "-")
    for name in ("train", "minari", "dev")
    for text in PROJECT["optional-dependencies"][name]
} - {"preplay"}
# Modules of what only the extras install, and of what that brings along.
BLOCKED = sorted(
    {
        module
        for module, names in packages_distributions().items()
        if {name.lower().replace("_", "-") for name in names} & EXTRAS
    }
    | {
        "mujoco",
        "dm_control",
        "dm_env",
        "shimmy",
        "tensorboard",
        "matplotlib",
        "imageio",
        "imageio_ffmpeg",
        "PIL",
        "rich",
    }
    | {"tyro", "scipy", "cma", "stable_baselines3", "minari", "h5py", "pandas", "google", "grpc", "lxml", "labmaze"}
    | {"packaging"}
)
BLOCKER = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


def python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )


def test_the_blocker_knows_the_extras():
    assert {"mujoco", "tyro", "scipy", "matplotlib"} <= set(BLOCKED)
    assert not {"torch", "numpy", "gymnasium", "safetensors", "jaxtyping"} & set(BLOCKED)


def test_an_agent_acts_in_two_lines_without_the_extras():
    done = python(
        BLOCKER
        + """
observation = [0.1] * 24
from agent import Agent
agent = Agent.load("checkpoints/walker-walk"); action = agent.act(observation)
assert action.shape == (6,) and (abs(action) <= 1).all()
import preplay
assert (preplay.load("checkpoints/walker-walk").act(observation) == action).all()
agent.use_planner(planner="policy").act(observation)
"""
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_needs_scipy_says_so():
    done = python(
        BLOCKER
        + """
from agent import Agent
from planners import PlannerError
agent = Agent.load("checkpoints/walker-walk")
agent.use_planner(knots=2, interpolation="zero").act([0.1] * 24)
try:
    agent.use_planner(knots=2, interpolation="cubic")
except PlannerError as error:
    print(error)
"""
    )
    assert done.stderr == ""
    assert "needs SciPy" in done.stdout


def test_what_needs_cma_says_so():
    done = python(
        BLOCKER
        + """
import planners
try:
    planners.make("cmaes", horizon=2, action_dim=1)
except planners.PlannerError as error:
    print(error)
"""
    )
    assert done.stderr == ""
    assert "needs cma" in done.stdout


@pytest.mark.parametrize(
    ("blocked", "arguments"),
    [(None, []), (None, ["--help"]), (None, ["run", "walker-walk"]), ("mujoco", ["run", "walker-walk"])],
)
def test_the_commands_say_what_they_lack(blocked, arguments):
    blocker = BLOCKER if blocked is None else re.sub(r"in \[.*?\]", f"in [{blocked!r}]", BLOCKER)
    done = python(blocker + "import sys\nfrom preplay.cli import main\nmain(sys.argv[1:])", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("preplay: ")
    assert "need" in done.stderr
    assert done.stderr.endswith(": pip install 'preplay[train]'\n")
    assert done.stderr.count("\n") == 1


def seconds(code):
    """Of processor time; on a machine with other work that is more than it would be, but no multiple of it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = python(code)
    assert (done.returncode, done.stderr) == (0, "")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_import_costs_little():
    """Two seconds at most; where a machine takes nearly as long for torch alone, half a second more than torch."""
    if min(seconds("from agent import Agent") for _ in range(3)) >= 2:
        # In one process: from one to the next, torch's own time varies by as much.
        code = "import time, torch; t = time.process_time(); from agent import Agent; print(time.process_time() - t)"
        assert min(float(python(code).stdout) for _ in range(3)) < 0.5


def test_the_import_leaves_out_what_acting_does_not_need():
    code = "import sys; from agent import Agent; print([name for name in sys.argv[1:] if name in sys.modules])"
    # Gymnasium and torch import some of these where they are installed, but for these.
    done = python(code, "scipy", "mujoco", "dm_control", "tensorboard", "matplotlib", "rich", "tyro", "minari", "sympy")
    assert (done.stdout, done.stderr) == ("[]\n", "")
