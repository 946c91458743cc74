"""`preplay train --tasks A,B,C --seeds N`: many agents at once."""

import contextlib
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import envs
from agent import Progress, TrainConfig, Trainer, TrainingStopped, configure_torch, resume
from agent.agent import choose_device
from agent.collecting import sizes
from agent.many import Outcome, Post, Together
from agent.resume import RunState
from preplay.actors import check_time_limit
from preplay.card import write_card
from preplay.errors import UsageError, disk_is_full, sentence_of
from preplay.output import print_object
from preplay.progress import RunsDisplay
from preplay.provenance import provenance
from preplay.text import file_name, interval_text
from preplay.train import (
    Train,
    agent_info,
    begin_sitting,
    changed_settings,
    check_folder,
    check_room,
    environments,
    final_returns,
    leave_no_shell,
    missing,
    note,
    signals_stop,
)


@dataclass(frozen=True)
class Run:
    """One of many runs.

    Attributes:
        task: trained on, with the action repeat that was asked for.
        config: everything that was set.
        folder: of the run.
        state: where it was saved last; None where it is yet to begin.
        made: folders that come to be for it.
    """

    task: envs.Task
    config: TrainConfig
    folder: Path
    state: RunState | None
    made: tuple[Path, ...]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.state is not None and self.state.moment.finished and self.config.steps <= self.state.config.steps


def train_many(options: Train) -> None:
    """Trains agents of all tasks and seeds together; goes on with those that were begun."""
    runs = plan(options)
    left = [run for run in runs if not run.finished]
    check_room(options.out or Path("runs"), runs=len(left))
    for task in {run.task.name: run.task for run in left}.values():
        # One that can't be made, or trained in, is refused before anything begins.
        with contextlib.closing(envs.make(task.name, action_repeat=task.action_repeat)) as env:
            sizes(env)
    errors = _train(left, options) if left else {}
    for run in runs:
        if run.finished:
            write_card(run.folder)  # what stopped it may have come just before
    _say(runs, errors, options.json)
    if errors:
        raise SystemExit(1)


def plan(options: Train) -> list[Run]:
    """The runs that are asked for, finished ones included.

    Raises:
        UsageError: for what doesn't fit together, or with the runs that were begun.
        TaskError: for an unknown task.
    """
    seeds = 1 if options.seeds is None else options.seeds
    if options.tasks is not None and options.task:
        raise UsageError(f"--tasks names all tasks; it can't go with the task {options.task!r} beside it")
    if options.resume is not None:
        raise UsageError("--resume is of one run; the command that began many runs goes on with them")
    if seeds < 1:
        raise UsageError(f"--seeds is {seeds}; expected at least 1")
    if options.experience is not None or options.config.offline:
        raise UsageError("--experience and --offline are of one run; they don't go with --tasks or --seeds")
    if options.config.overlap:
        raise UsageError("--overlap is of one run; with --tasks or --seeds the runs themselves are made side by side")
    if options.config.compile:
        raise UsageError("--compile is of one run; what many compute together is not compiled")
    names = [name.strip() for name in (options.task if options.tasks is None else options.tasks).split(",")]
    if not all(names):
        raise UsageError(f"--tasks has an empty name in {options.tasks!r}; write them as a,b,c")
    tasks = [envs.find(name) for name in names]
    for task in tasks:
        check_time_limit(task)
    known = [task.name for task in tasks]
    if len(set(known)) < len(known):
        raise UsageError(f"--tasks names {max(known, key=known.count)} twice; name each once")
    if options.action_repeat is not None:
        tasks = [replace(task, action_repeat=options.action_repeat) for task in tasks]
    first = options.config.seed
    return [_run(options, task, seed) for task in tasks for seed in range(first, first + seeds)]


def _run(options: Train, task: envs.Task, seed: int) -> Run:
    """The run of a task and a seed, where it is."""
    folder = (options.out or Path("runs")) / f"{file_name(task.name)}-seed{seed}"
    # Its process computes nothing heavy itself.
    config = replace(options.config, seed=seed, device="cpu")
    if not resume.exists(folder):
        check_folder(folder)
        return Run(task, config, folder, None, tuple(missing(folder)))
    state = resume.read(folder)
    if state.info.task != task.name:
        raise UsageError(f"the run in {str(folder)!r} trains {state.info.task}, not {task.name}; choose another --out")
    changed = changed_settings(config, state)
    if state.info.action_repeat != task.action_repeat:
        changed.append("action-repeat")
    if config.steps < state.config.steps:
        changed.append("steps")
    if changed:
        raise UsageError(
            f"the run in {str(folder)!r} was begun with another --{changed[0]}; runs that go on keep their settings, "
            "only --steps may be more; or choose another --out"
        )
    return Run(task, config, folder, state, ())


@dataclass(frozen=True)
class _Life:
    """A run, in its process.

    Attributes:
        run: to make.
        now: what there is to say of this sitting; see `provenance`.
    """

    run: Run
    now: dict[str, Any]

    def __call__(self, post: Post) -> None:
        run, state, trainer = self.run, self.run.state, None
        try:
            with environments(run.task.name, run.task.action_repeat) as (env, evaluation_env):
                if state is None:
                    info = agent_info(env.get_wrapper_attr("task"), envs.winding_angles(evaluation_env), self.now)
                else:
                    info = state.info
                    for sentence in begin_sitting(state, self.now):
                        post.tell(sentence)
                trainer = Trainer(env, evaluation_env, run.config, info, run.folder, post.tell, post.engine)
                post.on_stop(trainer.stop)
                trainer.run() if state is None else trainer.resume()
        except BaseException:
            if not resume.exists(run.folder):
                leave_no_shell(run.folder if trainer is not None and trainer.owns_folder else None, run.made)
            raise
        if not trainer.exact:
            post.tell("its environment did not repeat the running episode, so the run went on with the next")
        write_card(run.folder)


def _train(runs: list[Run], options: Train) -> dict[Path, str]:
    """Trains, and says why runs failed, by their folders."""
    configure_torch(options.config)
    device = choose_device(options.config.device)
    now = provenance() | {"together": len(runs)}
    if device.type == "cuda":
        now["accelerator"] = torch.cuda.get_device_name(device)
    errors: dict[Path, str] = {}
    steps: dict[int, int] = {}
    with RunsDisplay({run.folder.name: run.config.steps for run in runs}, quiet=options.json) as display:

        def told(number: int, what: Progress | str) -> None:
            if isinstance(what, str):
                display.say(number, what)
            else:
                steps[number] = what.step
                display.update(number, what)

        def ended(number: int, outcome: Outcome[None]) -> None:
            if outcome.error is None:
                display.end(number, "finished")
            elif isinstance(outcome.error, TrainingStopped):
                display.end(number, f"stopped at step {steps.get(number, 0):,}")
            else:
                errors[runs[number].folder] = sentence = _why(outcome.error)
                display.end(number, sentence, important=True)

        lives = [_Life(run, now) for run in runs]
        together: Together[None] = Together(lives, runs[0].config, device, told, ended)
        with signals_stop(together.stop) as received:
            outcomes: list[Outcome[None]] = together.run()
    if any(isinstance(outcome.error, TrainingStopped) for outcome in outcomes):
        note("stopped; the same command goes on")
        raise SystemExit(128 + received[0])
    return errors


def _why(error: BaseException) -> str:
    """What to say of a run that failed. A defect of ours keeps its traceback."""
    if disk_is_full(error):
        return "the disk is full; nothing saved is lost: make room, and the same command goes on"
    sentence = sentence_of(error) if isinstance(error, Exception) else None
    if sentence is not None:
        return sentence
    return "".join(traceback.format_exception(error)).rstrip()


def _say(runs: list[Run], errors: dict[Path, str], json: bool) -> None:
    """What came out."""
    if json:
        print_object({"runs": [_row(run, errors.get(run.folder)) for run in runs]})
        return
    width = max(len(run.folder.name) for run in runs)
    for run in runs:
        if run.folder in errors:
            print(f"{run.folder.name:{width}}  failed")
            continue
        figures = [
            f"{name} {record['mean_return']:7.1f} ({interval_text(record['interval'])})"
            for name, record in final_returns(run.folder).items()
        ]
        print(f"{run.folder.name:{width}}  {'  '.join(figures)}")
    done = [run for run in runs if run.folder not in errors]
    if done:
        example = f"preplay run {done[0].task.name} --checkpoint {done[0].folder}"
        print(f"stored in {done[0].folder.parent}; play one with: {example}")


def _row(run: Run, error: str | None) -> dict[str, Any]:
    row = {"folder": str(run.folder), "task": run.task.name, "seed": run.config.seed, "steps": run.config.steps}
    return row | ({"error": error} if error is not None else final_returns(run.folder))
