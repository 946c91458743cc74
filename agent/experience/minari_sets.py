"""Minari (https://minari.farama.org): where offline data sets of robots are published, and other libraries read them.

What exporting and importing have in common: the package, where data sets lie, and what we note of our own in them.
"""

import importlib
import json
import os
import re
from pathlib import Path
from typing import Any

from agent.errors import ExperienceError

# Under this name our own details are kept: of a data set in its metadata, of an episode in its attributes.
OURS = "preplay"
_NAME = re.compile(r"((?:[-_\w]+/)*)[-_\w]+-v\d+")
# A metadata file holds two spaces and a few lines; whatever is larger is something else.
_MOST = 2**24


def import_package() -> Any:
    """The module `minari`.

    Raises:
        ExperienceError: when it, or what it needs to read its files, is not installed.
    """
    try:
        importlib.import_module("minari.dataset._storages.hdf5_storage")
        return importlib.import_module("minari")
    except ImportError as error:
        raise ExperienceError(
            f"Minari data sets need the package minari ({error}); install it with: pip install 'preplay[train,minari]'"
        ) from None


def is_name(dataset: str) -> bool:
    """Whether a data set can be called that: `name-v0`, with namespaces before it as in `mujoco/hopper/expert-v0`."""
    match = _NAME.fullmatch(dataset)
    return match is not None and len(match[1]) != 2  # Minari knows no namespaces of one letter


def root() -> Path:
    """The folder where Minari keeps its data sets."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def find(dataset: str) -> Path:
    """The folder with a data set's data.

    Args:
        dataset: its name, or its folder.

    Raises:
        ExperienceError: when there is none; it says how to fetch it.
    """
    places = [Path(dataset), Path(dataset) / "data"]
    if is_name(dataset):
        places.append(root() / dataset / "data")
    for place in places:
        if (place / "metadata.json").is_file():
            return place
    if is_name(dataset):
        raise ExperienceError(
            f"there is no Minari data set {dataset!r} in {str(root())!r}; fetch it with: minari download {dataset}"
        )
    raise ExperienceError(
        f"{dataset!r} is neither a folder with a Minari data set nor the name of one, such as mujoco/hopper/expert-v0"
    )


def read_metadata(folder: Path) -> dict[str, Any]:
    """What a data set says of itself.

    Raises:
        ExperienceError: when it is damaged, or leaves out its spaces. Minari would then make the environment that it
            names, and what a stranger's file names may be any function.
    """
    file = folder / "metadata.json"
    try:
        if file.stat().st_size > _MOST:
            raise ValueError("it is too large")
        metadata = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise ExperienceError(f"{str(file)!r} can't be read: {line(error)}") from None
    if not isinstance(metadata, dict):
        raise ExperienceError(f"{str(file)!r} can't be read: it is no JSON object")
    if not all(isinstance(metadata.get(name), str) for name in ("observation_space", "action_space", "dataset_id")):
        raise ExperienceError(f"{str(file)!r} does not say what its name and its spaces are, so it can't be imported")
    return metadata


def line(error: BaseException) -> str:
    """An error's first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
