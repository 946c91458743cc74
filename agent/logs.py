"""What a run leaves to read: `metrics.jsonl` always, TensorBoard events on top."""

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any


class Log:
    """Appends records to `metrics.jsonl` and their numbers to TensorBoard, in one folder.

    A record has `kind`, `step` (environment steps) and its values. Every line is flushed, so what is on disk is whole
    lines but perhaps for the last one after a crash.
    """

    def __init__(self, folder: Path) -> None:
        # TensorBoard takes a second to import; users who only load an agent need not wait for it.
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._board = SummaryWriter(str(folder / "tensorboard"))
        self._file = open(folder / "metrics.jsonl", "w")  # noqa: SIM115 - closed in __exit__

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One record."""
        record = {"kind": kind, "step": step} | {name: plain(x) for name, x in values.items()}
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()
        prefix = "/".join([kind, values["planner"]] if "planner" in values else [kind])
        for name, x in values.items():
            if isinstance(x, int | float):
                self._board.add_scalar(f"{prefix}/{name}", x, step)

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
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
