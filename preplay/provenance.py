"""Where a result comes from: command, commit, versions, machine and date."""

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def provenance() -> dict[str, Any]:
    """Where a run comes from: command, commit, versions, machine and date."""
    return {
        "command": " ".join([_program(), *sys.argv[1:]]),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{processor()}, {platform.system()} {platform.machine()}",
        "versions": {name: installed(name) for name in ("torch", "mujoco", "gymnasium", "dm-control", "numpy")},
    }


def _program() -> str:
    """What was run: preplay, or a script of the source tree."""
    script = Path(sys.argv[0])
    return f"python {script.parent.name}/{script.name}" if script.parent.name == "benchmarks" else "preplay"


def commit() -> str | None:
    """The commit of the source tree that preplay runs from, with a + where it has changes; None outside one."""
    # An installed copy may lie inside somebody else's repository, whose commits say nothing of it.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return _git("describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*")


def _git(*arguments: str) -> str | None:
    """What git says about the folder of this file; None where it has nothing to say."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        asked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None if asked.returncode == 0 else None


def installed(name: str) -> str | None:
    """The installed version of a package; None when it isn't."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name and how many there are."""
    name = platform.processor() or "processor"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{os.cpu_count()} cores of {name}"
