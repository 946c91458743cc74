"""`python -m benchmarks.study train`: many runs of `preplay train`, a few at a time."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.study import tasks, variants
from benchmarks.study.curves import check_same, covered, read_file, take_in
from benchmarks.study.runs import Job
from preplay.errors import UsageError, sentence_of
from preplay.text import place

PROGRAM = (sys.executable, "-m", "preplay", "train")
_POLL = 0.2  # seconds


@dataclass(frozen=True)
class Train:
    """Train tasks, seeds and variants, each run a process of its own with one thread, and take their curves in.

    What has been taken in is skipped, what was interrupted goes on where it stopped, and what is finished is given more
    steps when more are asked for. Run folders and logs lie in --out.
    """

    tasks: tuple[str, ...] = ("hard-8",)
    """Tasks, or suites of them: hard-8, ablation-3."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds. Every task is trained with the first one before any is with the second."""
    variants: tuple[str, ...] = ("full",)
    """Ways to train; benchmarks/study/variants.py lists them."""
    steps: int = 100_000
    """Environment steps of each run, action repeat included."""
    workers: int = 2
    """Runs at a time."""
    compile: bool = False
    """Let torch compile what is heavy: to rounding the same numbers, sooner; needs a C++ compiler."""
    out: Path = Path("runs/study")
    """Where run folders and logs go."""
    results: Path = Path("benchmarks/results/study")
    """Where curves go."""

    def __call__(self) -> None:
        """Trains what is wanted and not there yet.

        Raises:
            SystemExit: with 1 when a run failed; 128 and the signal's number when one stopped it.
        """
        for name, value in (("workers", self.workers), ("steps", self.steps)):
            if value < 1:
                raise UsageError(f"--{name} is {value}; expected at least 1")
        if not self.tasks or not self.seeds or not self.variants:
            raise UsageError("there is nothing to train; name at least one of --tasks, --seeds and --variants each")
        if min(self.seeds) < 0:
            raise UsageError(f"--seeds has {min(self.seeds)}; expected 0 or more")
        jobs = self._jobs()
        for variant in {job.variant for job in jobs}:
            check_same(self.results, variant)
        with _signals() as received:
            failed = run_all(jobs, self.results, self.workers, received)
        if received:
            print("stopped, and saved; the same command goes on", file=sys.stderr)
            raise SystemExit(128 + received[0])
        if failed:
            raise SystemExit(1)

    def _jobs(self) -> list[Job]:
        wanted, ways = tasks.expand(self.tasks), [variants.find(name) for name in dict.fromkeys(self.variants)]
        return [
            Job(variant, task, seed, self.steps, self.out, self.compile)
            for seed in dict.fromkeys(self.seeds)
            for variant in ways
            for task in wanted
        ]


class _Process:
    """A run's process, which prints into its log."""

    def __init__(self, job: Job, arguments: list[str]) -> None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        self._began, self._log = time.monotonic(), job.log.open("ab")
        # A session of its own, so that Ctrl-C reaches it once: from here.
        self.popen = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        _say(f"{job.name}: {'goes on' if '--resume' in arguments else 'starts'}; log in {place(job.log)}")

    def end(self) -> tuple[int, str]:
        """The exit code, and how long it took."""
        self._log.close()
        minutes = int(time.monotonic() - self._began) // 60
        return self.popen.wait(), f"{minutes // 60}:{minutes % 60:02} hours"


def run_all(jobs: Sequence[Job], results: Path, workers: int, received: Sequence[int] = ()) -> int:
    """Brings all jobs to their end and takes their curves in, `workers` at a time.

    Args:
        jobs: what is wanted.
        results: where curves go.
        workers: processes at a time.
        received: signals; once there is one, nothing more is started, and the runs are asked to save and stop.

    Returns:
        How many failed.
    """
    waiting = [job for job in jobs if not covered(results, job.variant.name, job.task, job.seed, job.steps)]
    _say(f"{len(jobs)} runs, {len(jobs) - len(waiting)} of them done before")
    running: dict[Job, _Process] = {}
    failed, told = 0, 0  # told: signals that the runs have been told of
    try:
        while running or (waiting and not received):
            while waiting and len(running) < workers and not received:
                failed += _start(waiting.pop(0), results, running)
            if len(received) > told:  # the second one ends a run at once
                told = len(received)
                _terminate(running)
            for job in [job for job, process in running.items() if process.popen.poll() is not None]:
                failed += _end(job, running.pop(job), results, stopped=bool(received))
            time.sleep(_POLL if running else 0)
    except BaseException:
        _terminate(running)
        raise
    return failed


def _start(job: Job, results: Path, running: dict[Job, _Process]) -> int:
    """Starts a run, or takes it in where it is finished already; how many failed."""
    try:
        arguments = job.arguments()
        if arguments is None:
            _say(f"{job.name}: {_outcome(job, results)}")
        else:
            running[job] = _Process(job, arguments)
    except Exception as error:
        return _failed(job, error)
    return 0


def _end(job: Job, process: _Process, results: Path, stopped: bool) -> int:
    """Takes in a run whose process has ended; how many failed."""
    code, took = process.end()
    if code:
        _say(f"{job.name}: stopped" if stopped else f"{job.name}: failed, exit code {code}; see {place(job.log)}")
        return int(not stopped)
    try:
        _say(f"{job.name}: {_outcome(job, results)}, {took}")
    except Exception as error:
        return _failed(job, error)
    return 0


def _outcome(job: Job, results: Path) -> str:
    """Takes a finished run in, and says how it went."""
    curve = read_file(take_in(job.folder, job.variant, results))
    planned, prior = curve.planned["mean_return"], curve.prior["mean_return"]
    return f"return {planned:.0f} at {curve.steps:,} steps, policy prior {prior:.0f}"


def _failed(job: Job, error: Exception) -> int:
    """Says what is wrong with one run, so that the others can go on; a defect of ours keeps its traceback."""
    sentence = sentence_of(error)
    if sentence is None:
        raise error
    _say(f"{job.name}: failed: {sentence}")
    return 1


def _terminate(running: dict[Job, _Process]) -> None:
    """Asks runs to save and stop."""
    for process in running.values():
        process.popen.terminate()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects what would end this process, Ctrl-C and a closed terminal for two, in place of being ended by it."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)

    # What is ignored, as nohup lets a closed terminal be, stays ignored.
    every = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    caught = [number for number in every if signal.getsignal(number) is not signal.SIG_IGN]
    before: dict[int, Any] = {number: signal.signal(number, handle) for number in caught}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M')} {text}", flush=True)
