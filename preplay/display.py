"""What lines on a terminal have in common."""

from types import TracebackType
from typing import Self

from rich.progress import Progress


class Display:
    """Shows a bar for as long as it is entered.

    Attributes:
        _bar: set by whoever derives from it.
    """

    _bar: Progress

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
