"""`preplay train TASK`."""

import contextlib
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import gymnasium
import tyro

import envs
from agent import AgentInfo, Experience, TrainConfig, Trainer, TrainingStopped, logs, preset, resume
from agent.agent import choose_device
from agent.experience.merge import Merged
from agent.resume import RunState
from preplay.actors import check_time_limit
from preplay.card import read_metrics, write_card
from preplay.errors import UsageError, disk_is_full
from preplay.options import OptionalFolder, OptionalFolders, OptionalInt, OptionalName, TaskName, value_of
from preplay.output import print_object
from preplay.progress import TrainingDisplay
from preplay.provenance import provenance
from preplay.recall import recall
from preplay.text import file_name, interval_text

# The least room a run needs on disk: a few checkpoints, the logs, and some experience.
ROOM = 64 * 2**20


@dataclass(frozen=True)
class Train:
    """Train an agent on a task, and evaluate what was stored, with and without its planner.

    The run folder holds config.json and the weights (a checkpoint that `preplay run` and `Agent.load` take),
    metrics.jsonl, TensorBoard events, a card, all experience, and the state from which `--resume` goes on.
    """

    task: TaskName
    """A task that `preplay tasks` lists, any Gymnasium id with continuous actions, or module:Id."""
    preset: str = "small"
    """Size of the agent: tiny, small (made for a CPU) or base (for a GPU)."""
    out: OptionalFolder = None
    """Run folder. By default runs/TASK-seedN. One that exists and isn't empty is refused."""
    resume: OptionalFolder = None
    """Go on with the run in this folder, exactly as it would have gone on. Of the settings only --steps may be new."""
    experience: OptionalFolders = None
    """Begin with the experience in these folders (run folders or stores). Where it is of another task of the same
    world, its rewards are replaced by this task's."""
    action_repeat: OptionalInt = None
    """Environment steps that one decision lasts. By default 2 for DMControl, 1 for Gymnasium."""
    tasks: OptionalName = None
    """Train on each of these tasks, a,b,c, in the place of TASK: all agents at once, with their heavy computations in
    one call, which is what a GPU wants. The run folders are OUT/TASK-seedN, OUT being runs by default. Stopped, the
    same command goes on."""
    seeds: OptionalInt = None
    """Train this many agents on each task, all at once: seeds --seed, --seed + 1 and so on."""
    json: bool = False
    """Print one JSON object on standard output, and nothing else there."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)

    @staticmethod
    def defaults(arguments: list[str]) -> "Train":
        """The defaults are the preset's, or the run's to resume, so these have to be known before other options."""
        run = value_of(arguments, "--resume")
        if run == "":
            raise UsageError("--resume is empty; expected the folder of a training run")
        if run is not None:
            state = resume.read(Path(run))
            config = state.config
            if config.device == "auto" and state.moment.device == "cpu" != choose_device("auto").type:
                config = replace(config, device="cpu")  # what was chosen stays, also where torch finds a GPU now
            return Train("", config=config)
        name = value_of(arguments, "--preset") or "small"
        task = tyro.MISSING if value_of(arguments, "--tasks") is None else ""
        config = preset(name)
        planner = value_of(arguments, "--planning.planner")
        if planner:  # which may have sizes of its own
            config = replace(config, planning=config.planning.changed(planner=planner))
        return Train(task, preset=name, config=config)

    def __call__(self) -> None:
        """Trains."""
        if self.tasks is not None or self.seeds is not None:
            from preplay.many import train_many

            train_many(self)
            return
        if self.resume is not None:
            self._resume(self.resume)
        else:
            self._start()

    def _start(self) -> None:
        """A run from its beginning."""
        task = envs.find(self.task)
        check_time_limit(task)
        if self.experience == ():
            raise UsageError("--experience names no folder; expected one or more")
        if self.config.offline and not self.experience:
            raise UsageError("--offline learns from stored experience alone; name some with --experience FOLDER")
        folder = self.out or Path("runs") / f"{file_name(task.name)}-seed{self.config.seed}"
        check_folder(folder)
        made = missing(folder)
        with environments(self.task, self.action_repeat) as (env, evaluation_env):
            info = agent_info(env.get_wrapper_attr("task"), envs.winding_angles(evaluation_env), provenance())
            self._train(folder, info, env, evaluation_env, made)

    def _resume(self, folder: Path) -> None:
        """A run from where it was saved last."""
        state = resume.read(folder)
        info, config = state.info, state.config
        self._check_same(state)
        if self.config.steps < config.steps:
            raise UsageError(f"the run is to take {config.steps} steps; --steps can only be more")
        if state.moment.finished and self.config.steps <= config.steps:
            write_card(folder)  # what stopped it may have come just before
            if not self.json:
                print(f"the run in {folder} is finished; it goes on when it's given more steps: --steps N")
            self._say(folder)
            return
        for sentence in begin_sitting(state, provenance()):
            note(sentence)
        check_room(folder, "make room")
        with environments(info.task, info.action_repeat) as (env, evaluation_env):
            self._train(folder, info, env, evaluation_env)

    def _train(
        self,
        folder: Path,
        info: AgentInfo,
        env: gymnasium.Env[Any, Any],
        evaluation_env: gymnasium.Env[Any, Any],
        made: Sequence[Path] = (),
    ) -> None:
        """Trains until the end, or until someone stops it; `made` are the folders that come to be for it."""
        again = f"preplay train {info.task + ' ' if ':' in info.task else ''}--resume {shlex.quote(str(folder))}"
        with TrainingDisplay(info.task, quiet=self.json) as display:
            trainer = Trainer(env, evaluation_env, self.config, info, folder, display.update)
            try:
                with signals_stop(trainer.stop) as received:
                    if self.resume is not None:
                        trainer.resume()
                    else:
                        trainer.run(self._recall(trainer, received) if self.experience else None)
            except BaseException as error:
                if not resume.exists(folder):
                    # Another process that began the same run meanwhile keeps its files.
                    leave_no_shell(folder if trainer.owns_folder else None, made)
                    if isinstance(error, TrainingStopped):
                        note("stopped before there was anything to go on from; nothing is kept")
                        raise SystemExit(128 + received[0]) from None
                    raise
                if isinstance(error, TrainingStopped):
                    note(f"stopped at step {trainer.progress.step:,}; go on with: {again}")
                    raise SystemExit(128 + received[0]) from None
                if disk_is_full(error):
                    raise UsageError(f"the disk is full; nothing is lost: make room and go on with: {again}") from None
                raise
        if not trainer.exact:
            note(f"{info.task} did not repeat its running episode, so the run went on with the next, not bit for bit")
        write_card(folder)
        self._say(folder)

    def _recall(self, trainer: Trainer, received: list[int]) -> Callable[[Experience], None]:
        """Fills a run's experience from the stores that were named, unless a signal is received meanwhile."""
        info, model, sources = trainer.info, trainer.agent.model, self.experience or ()

        def fill(experience: Experience) -> None:
            taken: dict[str, Merged] = {}
            with contextlib.ExitStack() as stack:

                def make(task: str) -> gymnasium.Env[Any, Any]:
                    return stack.enter_context(contextlib.closing(envs.make(task, action_repeat=info.action_repeat)))

                def report(merged: Merged) -> None:
                    taken[merged.store] = merged
                    if received:
                        raise TrainingStopped

                sizes = model.observation_dim, model.action_dim
                recall(sources, experience, info.task, info.action_repeat, make, report, sizes)
            for merged in () if self.json else taken.values():
                rewards = (
                    f", {merged.relabelled:,} of them with the rewards of {info.task}" if merged.relabelled else ""
                )
                note(f"begins with {merged.decisions:,} decisions from {merged.store}{rewards}")

        return fill

    def _check_same(self, state: RunState) -> None:
        """Makes sure that nothing but `--steps` is to be different in a run that is resumed."""
        info = state.info
        given = {
            "out": self.out is not None,
            "preset": self.preset != "small",
            "experience": bool(self.experience),
            "action-repeat": self.action_repeat is not None,
        }
        changed = [name for name, is_given in given.items() if is_given]
        changed += changed_settings(self.config, state)
        if changed:
            raise UsageError(f"a run that is resumed keeps its settings; only --steps may be new, not --{changed[0]}")
        if self.task and envs.find(self.task).name != info.task:
            raise UsageError(f"the run in {str(self.resume)!r} trains {info.task}, not {self.task}")
        if ":" in info.task and not self.task:
            # What a file names isn't imported unless the user names it too.
            raise UsageError(
                f"the run trains {info.task}, whose module is imported to go on; where you trust it, say so with: "
                f"preplay train {info.task} --resume {self.resume}"
            )

    def _say(self, folder: Path) -> None:
        """The outcome, as it was logged."""
        task, final = resume.read(folder).info.task, final_returns(folder)
        if self.json:
            print_object({"folder": str(folder), "task": task, "steps": self.config.steps} | final)
            return
        for name, record in final.items():
            count = len(record["returns"])
            episodes = "1 episode" if count == 1 else f"{count} episodes"
            print(f"{name:8} {record['mean_return']:7.1f} ({interval_text(record['interval'])}) over {episodes}")
        print(f"stored in {folder}; play it with: preplay run {task} --checkpoint {folder}")


@contextlib.contextmanager
def environments(
    task: str, action_repeat: int | None = None
) -> Iterator[tuple[gymnasium.Env[Any, Any], gymnasium.Env[Any, Any]]]:
    """Where to train, and where to evaluate."""
    with contextlib.ExitStack() as stack:
        env, evaluation_env = (
            stack.enter_context(contextlib.closing(envs.make(task, action_repeat=action_repeat))) for _ in "ab"
        )
        yield env, evaluation_env


def agent_info(task: envs.Task, angles: tuple[int, ...], training: dict[str, Any]) -> AgentInfo:
    """What an agent of a task is for."""
    return AgentInfo(task.name, task.action_repeat, task.decisions, task.can_terminate, angles, training)


def begin_sitting(state: RunState, now: dict[str, Any]) -> list[str]:
    """Notes in a run's state that it goes on, with what there is `now`; what is to be said of it."""
    training = state.info.training
    told = {key: now[key] for key in ("commit", "date", "machine", "accelerator") if key in now}
    training.setdefault("resumed", []).append({"step": state.moment.step} | told)
    return [
        f"{name} was {version} and is {now['versions'].get(name)}; the run goes on, but not bit for bit"
        for name, version in training.get("versions", {}).items()
        if now["versions"].get(name) != version
    ]


def changed_settings(config: TrainConfig, state: RunState) -> list[str]:
    """Names of the options that are not what they were, but for --steps; the device that was chosen may be named."""
    stored = state.config
    device = stored.device if config.device == state.moment.device else config.device
    config = replace(config, steps=stored.steps, device=device)
    names = [each.name for each in fields(TrainConfig) if getattr(config, each.name) != getattr(stored, each.name)]
    return [name.replace("_", "-") for name in names]


def final_returns(folder: Path) -> dict[str, dict[str, Any]]:
    """Mean return, interval and returns of a finished run, with its planner and without."""
    final = [record for record in read_metrics(folder) if record["kind"] == "final"]
    names = "planner", "policy"  # in this order they are played
    keys = "mean_return", "interval", "returns"
    return {name: {key: record[key] for key in keys} for name, record in zip(names, final, strict=False)}


def check_folder(folder: Path) -> None:
    """Makes sure that a run can begin in a folder.

    Raises:
        UsageError: when it can't.
    """
    if resume.exists(folder):
        raise UsageError(
            f"{str(folder)!r} already holds a run; go on with preplay train --resume {folder}, or choose another --out"
        )
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not _hardly_begun(folder))):
        raise UsageError(f"{str(folder)!r} already holds something; choose another --out, or remove it")
    check_room(folder)


def _hardly_begun(folder: Path) -> bool:
    """Whether a folder holds nothing but a run that was killed before it had done or logged anything."""
    store, log = folder / "experience", folder / logs.FILE
    if not {file.name for file in folder.iterdir()} <= {"experience", "resume", "tensorboard", log.name}:
        return False
    if log.exists() and log.stat().st_size:
        return False
    if not store.exists():
        return True
    with Experience(store, read_only=True) as experience:
        return experience.total == 0


def check_room(folder: Path, what_to_do: str = "make room or choose another --out", runs: int = 1) -> None:
    """Makes sure that the first files of a run, or of several, will fit.

    Raises:
        UsageError: when they won't.
    """
    parent = next(p for p in [folder, *folder.resolve().parents] if p.exists())
    if shutil.disk_usage(parent).free < runs * ROOM:
        raise UsageError(f"less than {runs * ROOM >> 20} MB are free for {str(folder)!r}; {what_to_do}")


def missing(folder: Path) -> list[Path]:
    """The folders that come to be with this one, itself first."""
    return [part for part in (folder, *folder.parents) if not part.exists()]


def leave_no_shell(folder: Path | None, made: Sequence[Path]) -> None:
    """Removes what a run wrote that failed before it could be resumed, and the folders made for it."""
    for left in folder.iterdir() if folder is not None and folder.exists() else ():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    with contextlib.suppress(OSError):  # a folder that others use by now stays
        for part in made:
            part.rmdir()


@contextlib.contextmanager
def signals_stop(stop: Callable[[], object]) -> Iterator[list[int]]:
    """Lets Ctrl-C and SIGTERM stop runs where they can be resumed; the second time, at once.

    Args:
        stop: asks for it.

    Yields:
        The signals received.
    """
    received: list[int] = []
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            raise SystemExit(128 + number)
        received.append(number)
        stop()

    with contextlib.suppress(ValueError):  # not the main thread, which alone receives signals
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
    try:
        yield received
    finally:
        for restored, handler in before.items():
            signal.signal(restored, handler)


def note(sentence: str) -> None:
    """Says something on standard error."""
    print(f"preplay: {sentence}", file=sys.stderr)
