"""Files that are read from strangers: bounded, regular, and what they should be."""

import os
from pathlib import Path

import pytest
import torch

from agent import CheckpointError
from agent.files import Expected, parse_json, read_safely, read_tensors, sha256, stored, write_atomically, write_tensors

TENSORS = {
    "moments/a": torch.arange(6.0).reshape(2, 3),
    "step": torch.tensor(7, dtype=torch.int64),
    "random": torch.arange(5, dtype=torch.uint8),
    "none": torch.zeros(0, 4),
    "half": torch.ones(3, dtype=torch.float16),
    "flag": torch.tensor([True, False]),
}
EXPECTED = {name: Expected(tuple(x.shape), (x.dtype,)) for name, x in TENSORS.items()}


def test_tensors_come_back_as_they_were(tmp_path):
    written = write_tensors(tmp_path, "state", TENSORS)
    path = tmp_path / written.name
    assert [file.name for file in tmp_path.iterdir()] == [f"state-{written.sha256[:12]}.safetensors"]
    assert (sha256(path.read_bytes()), path.stat().st_size) == (written.sha256, written.bytes)
    assert stored(path) == written
    for size in (None, written.bytes):
        found = read_tensors(path, EXPECTED, written.sha256, size)
        assert found.keys() == TENSORS.keys()
        assert all(found[name].dtype == x.dtype and torch.equal(found[name], x) for name, x in TENSORS.items())


@pytest.mark.parametrize(
    "change",
    [
        {"step": Expected((1,), (torch.int64,))},
        {"step": Expected((), (torch.float32,))},
        {"more": Expected((1,))},
        {"none": Expected((4, 0))},
        {"half": Expected((3,), (torch.float32, torch.bfloat16))},
    ],
)
def test_other_tensors_than_expected_are_refused(tmp_path, change):
    written = write_tensors(tmp_path, "state", TENSORS)
    with pytest.raises(CheckpointError, match=f"does not hold the run's state .see '{next(iter(change))}'"):
        read_tensors(tmp_path / written.name, EXPECTED | change, written.sha256, holds="the run's state")


def test_one_of_several_types_will_do(tmp_path):
    written = write_tensors(tmp_path, "state", TENSORS)
    either = {"half": Expected((3,), (torch.float32, torch.float16))}
    assert read_tensors(tmp_path / written.name, EXPECTED | either, written.sha256)["half"].dtype == torch.float16


def test_no_tensors_at_all(tmp_path):
    written = write_tensors(tmp_path, "state", {})
    assert read_tensors(tmp_path / written.name, {}, written.sha256) == {}


def test_another_size_or_checksum_is_refused(tmp_path):
    written = write_tensors(tmp_path, "state", TENSORS)
    with pytest.raises(CheckpointError, match="when it was stored"):
        read_tensors(tmp_path / written.name, EXPECTED, written.sha256, written.bytes + 1)
    with pytest.raises(CheckpointError, match="checksum"):
        read_tensors(tmp_path / written.name, EXPECTED, "0" * 64)


def test_a_tensor_that_is_a_view_is_stored_whole(tmp_path):
    view = torch.arange(12.0).reshape(3, 4).T
    written = write_tensors(tmp_path, "state", {"x": view})
    assert torch.equal(read_tensors(tmp_path / written.name, {"x": Expected((4, 3))}, written.sha256)["x"], view)


def test_reading_is_bounded(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_safely(tmp_path / "a", 5) == b"12345"
    with pytest.raises(CheckpointError, match="has 5 bytes; expected 4 at most"):
        read_safely(tmp_path / "a", 4)


@pytest.mark.parametrize("name", ["missing", "a\0b", "\ud800", "x" * 300, "file/below"])
def test_names_of_no_file(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError):
        read_safely(tmp_path / name, 5)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/hostname", path)])
def test_only_regular_files_are_read(tmp_path, make):
    make(tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"symbolic link|no regular file"):
        read_safely(tmp_path / "a", 5)
    with pytest.raises(CheckpointError, match=r"symbolic link|no regular file"):
        stored(tmp_path / "a")


def test_devices_are_not_read():
    with pytest.raises(CheckpointError, match="no regular file"):
        read_safely(Path("/dev/zero"), 5)


def test_what_is_written_over_a_link_replaces_the_link(tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert read_safely(tmp_path / "a", 5) == b"new"


def test_random_states_fit_into_json():
    state = 2**128 - 1
    assert parse_json(f'{{"state": {state}}}'.encode(), "x") == {"state": state}


@pytest.mark.parametrize("text", ["9" * 41, "1e999", "NaN", '{"a": 1, "a": 2}', "[" * 33 + "]" * 33, "", "{'a': 1}"])
def test_json_beyond_measure(text):
    with pytest.raises(CheckpointError, match=r"^x can't be read: "):
        parse_json(text.encode(), "x")
