"""Importing MuJoCo, the DeepMind Control suite and Shimmy without their side effects."""

import contextlib
import functools
import io
import logging
import os
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any


def import_mujoco() -> None:
    """Imports `mujoco`, whatever MUJOCO_GL says.

    MuJoCo's own renderer stays as the user set it, unless the variable names one that can't be had; then `mujoco`
    could not be imported at all, and with it no world, drawn or not.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import mujoco
        except (ImportError, RuntimeError, AttributeError):
            with _renderer_disabled():
                import mujoco  # noqa: F401


@functools.cache
def import_suite() -> ModuleType:
    """`dm_control.suite`.

    On import, dm_control opens whichever renderer it finds, warns when there is no display, and fails when MUJOCO_GL
    names a backend that isn't there. Ours renders by itself, and only when it is asked to, so dm_control's is left out.
    """
    with _renderer_disabled(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dm_control.suite
    # dm_control hands MuJoCo's warnings to this logger.
    logging.getLogger("absl").addFilter(_worth_saying)

    return dm_control.suite


def _worth_saying(record: logging.LogRecord) -> bool:
    """Whether a user can do something about a warning of MuJoCo's.

    Not about deprecated attributes in the models of other packages, nor about physics that diverged, which
    `info["unstable"]` reports.
    """
    text = record.getMessage()
    return not ("settotalmass" in text or "Nan, Inf or huge value" in text)


def without_renderer(physics: Any) -> None:
    """Keeps a dm_control physics from making a renderer of its own, which tasks with terrain do at every reset."""
    physics.__class__ = type(type(physics).__name__, (type(physics),), {"contexts": None})


def import_shimmy() -> type:
    """Shimmy's wrapper of dm_control environments; its registration talks on standard output about extras."""
    import_suite()
    with contextlib.redirect_stdout(io.StringIO()), _renderer_disabled(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from shimmy.dm_control_compatibility import DmControlCompatibilityV0

    return DmControlCompatibilityV0


@contextlib.contextmanager
def _renderer_disabled() -> Iterator[None]:
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "disabled"
    try:
        yield
    finally:
        if before is None:
            del os.environ["MUJOCO_GL"]
        else:
            os.environ["MUJOCO_GL"] = before
