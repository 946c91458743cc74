"""Whatever lies in a checkpoint's folder, loading it gives an agent or a `CheckpointError`."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent import Agent, CheckpointError, ConfigError
from tests.agent.folders import content_of, replace_weights, seal_anyhow, taken_apart, weights_of, with_header

GOLDEN = Path(__file__).parent.parent / "golden" / "schema2-angles"
CONFIG = (GOLDEN / "config.json").read_bytes()
WEIGHTS = weights_of(GOLDEN).read_bytes()
HEADER, BODY = taken_apart(WEIGHTS)
CONTENT = content_of(GOLDEN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shutil.copytree(GOLDEN, tmp_path_factory.mktemp("fuzzed") / "agent")


def restore(folder, config=CONFIG, weights=WEIGHTS):
    (folder / "config.json").write_bytes(config)
    weights_of(folder).write_bytes(weights)


def check_sentence(text):
    assert "\n" not in text
    assert len(text) < 1000


def load(folder):
    """The agent, one that acts; None where it is refused in a sentence."""
    try:
        agent = Agent.load(folder, "cpu")
    except CheckpointError as error:
        check_sentence(str(error))
        return None
    agent.use_planner(planner="policy")
    action = agent.act(np.zeros(agent.model.observation_dim))
    assert action.shape == (agent.model.action_dim,)
    assert (abs(action) <= 1).all()
    return agent


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=100)
def test_any_bytes_as_description(folder, data):
    restore(folder, config=data)
    assert load(folder) is None


@given(st.integers(0, len(CONFIG)), st.integers(0, 40), st.binary(max_size=20))
@settings(max_examples=100)
def test_any_damage_to_the_description(folder, begin, length, data):
    changed = CONFIG[:begin] + data + CONFIG[begin + length :]
    restore(folder, config=changed)
    agent = load(folder)
    assert agent is None or b"".join(changed.split()) == b"".join(CONFIG.split())


def flip(data, place):
    flipped = bytearray(data)
    flipped[place // 8] ^= 1 << place % 8
    return bytes(flipped)


@given(st.integers(0, 8 * len(CONFIG) - 1))
@settings(max_examples=150)
def test_any_single_bit_of_the_description(folder, place):
    restore(folder, config=flip(CONFIG, place))
    with pytest.raises(CheckpointError):
        Agent.load(folder, "cpu")


def test_a_number_written_otherwise_is_noticed_too(folder):
    """1e-05 and 1E-05 are one bit apart, and the same."""
    restore(folder)
    seal_anyhow(folder, CONTENT | {"training": {"rate": 1e-5}})
    assert load(folder) is not None
    text = (folder / "config.json").read_bytes()
    (folder / "config.json").write_bytes(flip(text, 8 * text.index(b"1e-05") + 8 + 5))
    assert b"1E-05" in (folder / "config.json").read_bytes()
    assert load(folder) is None


@given(st.integers(0, 8 * len(WEIGHTS) - 1) | st.integers(0, 8 * (len(WEIGHTS) - len(BODY)) - 1))
@settings(max_examples=100)
def test_any_single_bit_of_the_weights(folder, place):
    restore(folder, weights=flip(WEIGHTS, place))
    with pytest.raises(CheckpointError):
        Agent.load(folder, "cpu")


def paths(value, at=()):
    """Where something is in a JSON value."""
    yield at
    for key, x in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(x, (*at, key))


def changed(value, path, change):
    """The value with something else at a place, or without it."""
    if not path:
        return change(value)
    new = value.copy()
    if change is None and len(path) == 1:
        del new[path[0]]
    else:
        new[path[0]] = changed(value[path[0]], path[1:], change)
    return new


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.integers(),
    st.sampled_from([10**39, 10**400, -(10**400), 2**31, 2**63, 2**64, 10**12, 0.5, 1e-320, 1e308, math.nan, math.inf]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["\ud800", "\0", "a\nb", "../x", "os:system", "float16", "mppi", "cem", "policy", "cmaes", "x" * 5000]
    ),
    st.sampled_from([nested(5), nested(31), nested(40), nested(900)]),
    st.dictionaries(st.text(max_size=5) | st.just("_target_"), st.integers() | st.text(max_size=5), max_size=2),
    st.lists(st.integers(-2, 6) | st.text(max_size=3), max_size=3),
)
PLACES = [path for path in paths(CONTENT) if path]


@given(st.lists(st.tuples(st.sampled_from(PLACES), ODD.map(lambda x: lambda _: x) | st.none()), min_size=1, max_size=2))
@settings(max_examples=150)
def test_any_change_of_the_description_with_a_digest_that_fits(folder, changes):
    content = CONTENT
    for path, change in changes:
        try:
            content = changed(content, path, change)
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # the first change took the place of the second away
    restore(folder)
    seal_anyhow(folder, content)
    load(folder)


@given(
    st.sampled_from([None, *PLACES]),
    st.text(max_size=10) | st.sampled_from(["sha256", "schema", "_target_", "weights"]),
    ODD,
)
@settings(max_examples=150)
def test_any_field_more_is_refused(folder, path, key, value):
    def more(at):
        return {**at, key: value} if isinstance(at, dict) and key not in at else at

    content = changed(CONTENT, path or (), more)
    restore(folder)
    if content == CONTENT or path == ("training",) or (not path and key == "sha256"):
        return
    seal_anyhow(folder, content)
    assert load(folder) is None


@given(st.sampled_from(sorted(CONTENT)))
def test_a_name_twice(folder, key):
    text = CONFIG.decode().replace(f'"{key}":', f'"{key}": {json.dumps(CONTENT[key])}, "{key}":', 1)
    restore(folder, config=text.encode())
    assert load(folder) is None


NUMBERS = (
    st.integers(-(2**70), 2**70)
    | st.integers(0, 3000)
    | st.sampled_from([2**40, 2**63, -1, 0, 4, 1.0, True, None, "4"])
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "F64", "I8", "C64", "F4", "", "f32", "object", 32, None, [], {}]),
        "shape": st.lists(NUMBERS, max_size=3) | NUMBERS,
        "data_offsets": st.lists(NUMBERS, max_size=3) | NUMBERS,
        "more": st.none(),
    },
)


@given(
    st.dictionaries(st.sampled_from([*HEADER, "__metadata__", "x", ""]), ENTRIES, min_size=1, max_size=3), st.booleans()
)
@settings(max_examples=100)
def test_any_header(folder, entries, merge):
    header = dict(HEADER)
    for name, entry in entries.items():
        header[name] = HEADER.get(name, {}) | entry if merge else entry
    restore(folder)
    if header != HEADER:
        replace_weights(folder, with_header(header, BODY))
        assert load(folder) is None


@given(st.binary(max_size=100), st.integers(0, 2**64 - 1) | st.integers(0, 120))
@settings(max_examples=60)
@example(b"{}", 2)
@example(b"[]", 2)
@example(b'{"__metadata__": {}}', 20)
def test_any_bytes_as_weights(folder, data, length):
    restore(folder)
    replace_weights(folder, length.to_bytes(8, "little") + data)
    assert load(folder) is None


@given(st.permutations(sorted(HEADER)), st.integers(0, 5))
@settings(max_examples=30)
def test_tensors_in_any_order_are_the_same_agent(folder, names, spaces):
    header = {name: HEADER[name] for name in names}
    restore(folder)
    replace_weights(folder, with_header(json.dumps(header).encode() + b" " * spaces, BODY))
    assert load(folder) is not None


@given(st.sampled_from(sorted(HEADER)), st.sampled_from(sorted(HEADER)))
def test_tensors_in_the_place_of_others(folder, one, other):
    header = HEADER | {one: HEADER[one] | {"data_offsets": HEADER[other]["data_offsets"]}}
    restore(folder)
    replace_weights(folder, with_header(header, BODY))
    assert (load(folder) is not None) == (one == other)


def test_a_tensor_named_twice(folder):
    name = next(iter(HEADER))
    text = json.dumps(HEADER)[:-1] + f", {json.dumps(name)}: {json.dumps(HEADER[name])}}}"
    restore(folder)
    replace_weights(folder, with_header(text.encode(), BODY))
    assert load(folder) is None


@given(st.dictionaries(st.text(max_size=5), ODD, max_size=3))
def test_any_training_record_is_stored_and_read_or_refused(folder, training):
    restore(folder)
    agent = Agent.load(folder, "cpu")
    agent.info.training = training
    try:
        agent.save(folder.parent / "saved")
    except ConfigError:
        return
    assert Agent.load(folder.parent / "saved", "cpu").info.training == training
