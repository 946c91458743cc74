"""What a run leaves to read: `metrics.jsonl` always, TensorBoard events on top."""

import contextlib
import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from agent.errors import CheckpointError

FILE = "metrics.jsonl"


def check_length(folder: Path, position: int) -> None:
    """Makes sure that the log in a folder is at least as long as it was.

    Raises:
        CheckpointError: when it isn't.
    """
    path = folder / FILE
    if not path.is_file() or path.stat().st_size < position:
        raise CheckpointError(f"{path} has lost lines since the run was saved; put back the file as it was")


class Log:
    """Appends records to `metrics.jsonl` and their numbers to TensorBoard, in one folder.

    A record has `kind`, `step` (environment steps) and its values. Every line is flushed, so what is on disk is whole
    lines but perhaps for the last one after a crash.

    Args:
        folder: made when it doesn't exist.
        position: bytes of `metrics.jsonl` to go on after; what was written beyond them is forgotten. None begins anew.
        step: of the last record before `position`; TensorBoard shows nothing of what was written beyond it.

    Raises:
        CheckpointError: when `metrics.jsonl` is shorter than `position`.
    """

    def __init__(self, folder: Path, position: int | None = None, step: int | None = None) -> None:
        # TensorBoard takes a second to import; users who only load an agent need not wait for it.
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        if position is not None:
            check_length(folder, position)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=None if step is None else step + 1)
        self._file = open(path, "wb" if position is None else "r+b")  # noqa: SIM115 - closed in __exit__
        if position is not None:
            self._file.truncate(position)
            self._file.seek(position)

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One record."""
        record = {"kind": kind, "step": step} | {name: plain(x) for name, x in values.items()}
        self._file.write((json.dumps(record, allow_nan=False) + "\n").encode())
        self._file.flush()
        prefix = "/".join([kind, values["planner"]] if "planner" in values else [kind])
        for name, x in values.items():
            if isinstance(x, int | float):
                self._board.add_scalar(f"{prefix}/{name}", x, step)

    def sync(self) -> None:
        """Makes sure that all lines are on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # On a full disk neither can write what it still holds; what was said of that already is what matters.
        with contextlib.suppress(OSError) if error else contextlib.nullcontext():
            self._file.close()
        with contextlib.suppress(OSError) if error else contextlib.nullcontext():
            self._board.close()


def plain(x: Any) -> Any:
    """Short and valid JSON: six digits, and null for what is not finite."""
    if isinstance(x, float):
        return float(f"{x:.6g}") if math.isfinite(x) else None
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [plain(value) for value in x]
    return x
