"""Files that may be read from strangers, and written so that a kill or a full disk leaves no half of one.

Whatever is read here has a bound that is checked before memory is taken, is a regular file and no symbolic link, and is
never unpickled. Whatever is wrong with it is a `CheckpointError` of one sentence.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import BufferedReader
from math import isfinite, prod
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from agent.errors import CheckpointError

# The types that we store, by their names in a safetensors header.
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
# Room in a header for one tensor's type, shape and offsets, and for padding.
_ENTRY = 512
# More than any number of ours has, random states of 128 bits included.
_DIGITS = 40
_DEEPEST = 32


@dataclass(frozen=True)
class Expected:
    """What a tensor in a file has to be.

    Attributes:
        shape: exactly.
        dtypes: one of these.
    """

    shape: tuple[int, ...]
    dtypes: Collection[torch.dtype] = (torch.float32,)

    @property
    def most(self) -> int:
        """The most bytes that it can take."""
        return prod(self.shape) * max(dtype.itemsize for dtype in self.dtypes)


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Attributes:
        name: in its folder.
        sha256: of its content, in hexadecimal digits.
        bytes: its size.
    """

    name: str
    sha256: str
    bytes: int


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that it is either whole or not there: aside, synced to disk, then renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb", opener=_no_links) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def read_safely(path: Path, most: int) -> bytes:
    """The content of a regular file.

    Args:
        path: a symbolic link, a folder or a pipe is refused; folders above it may be links.
        most: bytes; a larger file is refused before any of it is read.

    Raises:
        CheckpointError: when there is no such file, or it is something else or too large.
    """
    with _opened(path) as file:
        return _read(file, path, _size(file, path, most))


def write_tensors(folder: Path, stem: str, tensors: Mapping[str, Tensor]) -> Written:
    """Writes tensors as `<stem>-<the first 12 digits of its SHA-256>.safetensors`, whole or not at all.

    Args:
        folder: one that exists.
        stem: begins the file's name, which the content completes: other content never takes the place of a file that
            something still refers to.
        tensors: on any device. Of two that share memory, only one can be stored.
    """
    data = safetensors.torch.save({name: x.detach().cpu().contiguous() for name, x in tensors.items()})
    digest = sha256(data)
    name = f"{stem}-{digest[:12]}.safetensors"
    write_atomically(folder / name, data)
    return Written(name, digest, len(data))


def remove_others(folder: Path, stem: str, name: str) -> None:
    """Removes what `write_tensors` left in a folder under a stem, but for the file of that name.

    Also what a kill left of such files that were being written.
    """
    ours = re.compile(rf"{stem}-[0-9a-f]{{12}}\.safetensors|\.{stem}-[0-9a-f]{{12}}\.safetensors\.[0-9]+\.tmp")
    for other in os.listdir(folder):
        if other != name and ours.fullmatch(other):
            (folder / other).unlink(missing_ok=True)


def read_tensors(
    path: Path,
    expected: Mapping[str, Expected],
    digest: str,
    size: int | None = None,
    holds: str = "the model that config.json describes",
) -> dict[str, Tensor]:
    """Reads a safetensors file that has to hold exactly the expected tensors.

    The file's size, then its header, then its checksum are checked; only then are there tensors. What it takes is
    bounded by what is expected, whatever the file claims.

    Args:
        path: as in `read_safely`.
        expected: the tensors' names, shapes and types. All must be there, and no others.
        digest: the SHA-256 that the file must have, in hexadecimal digits.
        size: bytes that it must have; None where that is not known.
        holds: what it should hold, for the errors.

    Returns:
        The tensors, on the CPU, in the types they are stored in. They may be NaN or infinite.

    Raises:
        CheckpointError: for a file that is missing, damaged, or holds something else.
    """
    longest = sum(len(json.dumps(name)) + _ENTRY for name in expected) + _ENTRY
    most = 8 + longest + sum(x.most for x in expected.values())
    with _opened(path) as file:
        found = _size(file, path, most if size is None else max(most, size))
        if size is not None and found != size:
            raise CheckpointError(f"{path} is damaged: it has {found:,} bytes, and {size:,} when it was stored")
        if found > most:
            raise CheckpointError(f"{path} does not hold {holds}: it has {found:,} bytes, and needs {most:,} at most")
        start = _read(file, path, min(8, found))
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(longest, found - 8):
            raise CheckpointError(
                f"{path} is not a safetensors file that holds {holds}: its header would have {length:,} bytes"
            )
        header = _read(file, path, length)
        _check_header(header, found - 8 - length, expected, path, holds)
        data = start + header + _read(file, path, found - 8 - length)
    if sha256(data) != digest:
        raise CheckpointError(f"{path} is damaged: its content does not match the checksum that was stored with it")
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, struct.error) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {shortened(error)}") from None


def parse_json(data: bytes, what: object) -> Any:
    """Parses JSON strictly: UTF-8, no name twice in an object, no `NaN`, no number or nesting beyond all measure.

    Args:
        data: not too long, see `read_safely`.
        what: the file's name, for the errors.

    Raises:
        CheckpointError: for anything else.
    """
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_no_name_twice,
            parse_constant=_no_constant,
            parse_int=_int,
            parse_float=_float,
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} can't be read: {shortened(error)}") from None
    _check_depth(value, what)
    return value


def sha256(data: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def stored(path: Path) -> Written:
    """What a file is now, found out without taking memory for the whole of it.

    Raises:
        CheckpointError: as `read_safely` does.
    """
    with _opened(path) as file:
        try:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{path} can't be read: {error.strerror}") from None
        return Written(path.name, digest, file.tell())


def shortened(error: Exception) -> str:
    """The first line of what an error says, no longer than a sentence."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def content_sha256(content: Any) -> str:
    """The SHA-256 of plain JSON values, whatever way they are written: keys sorted, no white space, ASCII only."""
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def _check_header(header: bytes, rest: int, expected: Mapping[str, Expected], path: Path, holds: str) -> None:
    """Makes sure that a header describes the expected tensors, and that they fill the `rest` of the file exactly."""
    entries = parse_json(header, f"{path}, which should be a safetensors file,")
    if not isinstance(entries, dict):
        raise CheckpointError(f"{path} is not a safetensors file: its header is no object")
    for name in sorted(expected.keys() ^ entries.keys()):
        raise CheckpointError(f"{path} does not hold {holds} (see {name!r})")
    spans = []
    for name, wanted in expected.items():
        entry = entries[name]
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise CheckpointError(f"{path} is damaged: its header does not describe {name!r}")
        dtype = _TYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
        if dtype not in wanted.dtypes or not _whole(entry["shape"]) or tuple(entry["shape"]) != wanted.shape:
            raise CheckpointError(f"{path} does not hold {holds} (see {name!r})")
        offsets = entry["data_offsets"]
        assert dtype is not None
        if not _whole(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != prod(wanted.shape) * dtype.itemsize:
            raise CheckpointError(f"{path} is damaged: the place of {name!r} in it makes no sense")
        spans.append(tuple(offsets))
    end = 0
    for begins, ends in sorted(spans):
        if begins != end:
            raise CheckpointError(f"{path} is damaged: its tensors overlap or leave gaps")
        end = ends
    if end != rest:
        raise CheckpointError(f"{path} is damaged: its tensors take {end:,} bytes, and it has {rest:,} for them")


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int for value in values)


def _opened(path: Path) -> BufferedReader:
    """A regular file, open for reading. Nothing of it has been read, and opening never waits for a pipe's other end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {str(path)!r}") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise CheckpointError(f"{path} is a symbolic link; expected the file itself: copy it there") from None
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:  # a NUL or half a surrogate pair in the name
        raise CheckpointError(f"{str(path)!r} is no file's name: {shortened(error)}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path} is no regular file; expected one")
    return open(descriptor, "rb")


def _size(file: BufferedReader, path: Path, most: int) -> int:
    size = os.fstat(file.fileno()).st_size
    if size > most:
        raise CheckpointError(f"{path} has {size:,} bytes; expected {most:,} at most")
    return size


def _read(file: BufferedReader, path: Path, size: int) -> bytes:
    try:
        data = file.read(size)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from None
    if len(data) != size:
        raise CheckpointError(f"{path} was changed while it was read; load it again")
    return data


def _no_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("it has a name twice")
    return values


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _int(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"it has a number of {len(digits):,} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not isfinite(value):
        raise ValueError(f"{digits[:_DIGITS]} is too large a number")
    return value


def _check_depth(value: Any, what: object) -> None:
    """Whoever goes through the value later may do so by recursion."""
    layer = [value]
    for _ in range(_DEEPEST):
        layer = [x for part in layer if isinstance(part, dict | list) for x in _parts(part)]
        if not layer:
            return
    raise CheckpointError(f"{what} can't be read: it is nested more than {_DEEPEST} deep")


def _parts(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value
