"""To Minari and back, and what Minari's own data sets look like."""

import json
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from agent.errors import ExperienceError
from agent.experience.merge import merge
from agent.experience.minari_export import export_minari
from agent.experience.minari_import import import_minari
from agent.experience.store import Experience
from tests.agent.experience.lived import assert_same, facts, invented

minari = pytest.importorskip("minari")
EpisodeBuffer = pytest.importorskip("minari.data_collector").EpisodeBuffer


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    """Where Minari keeps its data sets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def filled(folder):
    store = Experience(folder)
    store.append(invented(7), task="walk", seed=3, action_repeat=2, extra={"note": [1, "é", None, {"a/b": 0.1}]})
    store.append(invented(4, seed=1, ends="terminated"), task="walk", action_repeat=4)
    store.append(invented(5, 6, 1, 2), task="run", seed=2**40, extra={})
    store.append(invented(1, seed=3, ends=""), task="walk", seed=0)
    return store


def create(dataset, buffers, action_space=None, observation_space=None, env="Hopper-v5"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return minari.create_dataset_from_buffers(
            dataset,
            buffers,
            env=None if env is None else gymnasium.spec(env),
            action_space=action_space,
            observation_space=observation_space,
        )


def buffer(length=5, observation_dim=11, action_dim=3, seed=0, **changes):
    rng = np.random.default_rng(seed)
    ends = np.arange(length) == length - 1
    values = {
        "seed": seed,
        "observations": rng.normal(size=(length + 1, observation_dim)),
        "actions": rng.uniform(-1, 1, (length, action_dim)).astype(np.float32),
        "rewards": rng.normal(size=length),
        "terminations": ends,
        "truncations": np.zeros(length, bool),
    }
    return EpisodeBuffer(**(values | changes))


def test_there_and_back_restores_every_bit(tmp_path):
    with filled(tmp_path / "a") as a, Experience(tmp_path / "b") as b:
        assert export_minari(a, "some/thing/walk-v0", task="walk") == 12
        assert export_minari(a, "run-v3", task="run") == 5
        assert import_minari(b, "some/thing/walk-v0") == 12
        assert import_minari(b, "run-v3") == 5
        there = sorted(a.episodes, key=lambda e: e.task, reverse=True)
        assert sorted(facts(a), key=lambda fact: fact[0], reverse=True) == facts(b)
        for one, other in zip(there, b.episodes, strict=True):
            assert_same(a.read(one), b.read(other))
        # What came this way is known by its origin, and so does not come again by any other.
        assert import_minari(b, "some/thing/walk-v0") == 0
        assert import_minari(a, "some/thing/walk-v0") == 0
        assert merge(b, a) == 0
        assert merge(a, b) == 0


def test_what_minari_itself_sees(tmp_path, datasets):
    with filled(tmp_path / "a") as a:
        export_minari(a, "some/walk-v0", task="walk")
        found = minari.load_dataset("some/walk-v0")
        assert list(minari.list_local_datasets()) == ["some/walk-v0"]
        assert (found.total_episodes, found.total_steps) == (3, 12)
        assert found.action_space == spaces.Box(-1, 1, (2,), np.float32)
        assert found.observation_space == spaces.Box(-np.inf, np.inf, (3,), np.float32)
        for stored, episode in zip([a.episodes[i] for i in (0, 1, 3)], found, strict=True):
            data = a.read(stored)
            assert episode.observations.tobytes() == data.observations.tobytes()
            assert episode.rewards.dtype == np.float32
            assert episode.terminations.tolist() == data.terminated.tolist()
            assert episode.truncations.tolist() == data.truncated.tolist()
            assert episode.infos["seed"].tolist() == [-1 if stored.seed is None else stored.seed] * (
                len(data.rewards) + 1
            )
            assert episode.infos["action_repeat"].tolist() == [stored.action_repeat] * (len(data.rewards) + 1)
            assert episode.infos["actor"][0] == -1
        assert [folder.name for folder in (datasets / "some").iterdir() if folder.is_dir()] == ["walk-v0"]


def test_what_minari_joined_keeps_seeds_and_repeats(tmp_path):
    with filled(tmp_path / "a") as a, Experience(tmp_path / "b") as b:
        export_minari(a, "walk-v0", task="walk")
        minari.combine_datasets([minari.load_dataset("walk-v0")], "joined-v0")
        with pytest.raises(ExperienceError, match="does not say what task"):
            import_minari(b, "joined-v0")
        assert import_minari(b, "joined-v0", task="walk") == 12
        assert [(e.seed, e.action_repeat) for e in b.episodes] == [(3, 2), (None, 4), (0, 1)]
        assert [e.actors for e in b.episodes] == [{"joined-v0": 7}, {"joined-v0": 4}, {"joined-v0": 1}]


def test_a_data_set_of_gymnasiums(tmp_path, datasets):
    cut = {"terminations": np.zeros(3, bool), "truncations": np.zeros(3, bool)}
    buffers = [buffer(5, seed=1), buffer(3, seed=2, **cut), buffer(4, seed=3)]
    create("mujoco/hopper/expert-v0", buffers)
    with Experience(tmp_path / "a") as a:
        assert import_minari(a, "mujoco/hopper/expert-v0") == 12
        assert [e.task for e in a.episodes] == ["Hopper-v5"] * 3
        assert [(e.seed, e.terminated, e.truncated) for e in a.episodes] == [
            (1, True, False),
            (2, False, False),
            (3, True, False),
        ]
        assert a.episodes[0].actors == {"mujoco/hopper/expert-v0": 5}
        for given, episode in zip(buffers, a.episodes, strict=True):
            data = a.read(episode)
            assert data.observations.tobytes() == given.observations.astype(np.float32).tobytes()
            assert data.actions.tobytes() == given.actions.tobytes()
            assert data.rewards.tobytes() == given.rewards.astype(np.float32).tobytes()
        # Its folder, or its data's, do as well; and it is the same data set.
        assert import_minari(a, datasets / "mujoco/hopper/expert-v0") == 0
        assert import_minari(a, str(datasets / "mujoco/hopper/expert-v0/data")) == 0
        assert import_minari(a, "mujoco/hopper/expert-v0", task="mine") == 12


def test_actions_are_scaled_and_clipped(tmp_path):
    space = spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32))
    actions = np.array([[-2, 0], [2, 10], [0, 5], [-3, 11], [1, 2.5]], np.float32)
    create("scaled-v0", [buffer(5, action_dim=2, actions=actions)], space)
    with Experience(tmp_path / "a") as a:
        import_minari(a, "scaled-v0")
        expected = [[-1, -1], [1, 1], [0, 0], [-1, 1], [0.5, -0.5]]
        assert a.read(a.episodes[0]).actions.tolist() == expected


def test_observations_are_flattened_as_gymnasium_does(tmp_path):
    space = spaces.Dict(
        {
            "b": spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
            "a": spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (1,), np.float32)]),
        }
    )
    space.seed(1)
    observations = [space.sample() for _ in range(6)]
    columns = {
        "b": np.stack([x["b"] for x in observations]),
        "a": tuple(np.stack([x["a"][i] for x in observations]) for i in range(2)),
    }
    create("nested-v0", [buffer(5, observations=columns)], observation_space=space)
    with Experience(tmp_path / "a") as a:
        import_minari(a, "nested-v0")
        expected = np.stack([spaces.flatten(space, x) for x in observations]).astype(np.float32)
        assert a.read(a.episodes[0]).observations.tobytes() == expected.tobytes()


def test_an_episode_that_goes_on_after_its_end_is_several(tmp_path):
    flags = np.array([False, True, False, False, True])
    create("runs-on-v0", [buffer(6, seed=4, terminations=np.append(flags, False)), buffer(2, seed=5)])
    with Experience(tmp_path / "a") as a:
        assert import_minari(a, "runs-on-v0") == 8
        assert [(e.decisions, e.seed, e.terminated) for e in a.episodes] == [
            (2, 4, True),
            (3, None, True),
            (1, None, False),
            (2, 5, True),
        ]
        assert import_minari(a, "runs-on-v0") == 0


def test_an_interrupted_import_goes_on_where_it_was(tmp_path):
    create("hopper-v0", [buffer(5, seed=i) for i in range(4)])

    def stop(merged):
        if merged.done == 2:
            raise KeyboardInterrupt

    with Experience(tmp_path / "a") as a, pytest.raises(KeyboardInterrupt):
        import_minari(a, "hopper-v0", on_progress=stop)
    with Experience(tmp_path / "a") as a:
        assert import_minari(a, "hopper-v0") == 10
        assert [e.seed for e in a.episodes] == [0, 1, 2, 3]


def test_an_interrupted_export_leaves_nothing(tmp_path, datasets, monkeypatch):
    with filled(tmp_path / "a") as a:

        def stop(merged):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export_minari(a, "walk-v0", task="walk", on_progress=stop)
        assert list(datasets.iterdir()) == []
        assert export_minari(a, "walk-v0", task="walk") == 12


def box(*shape, kind=np.float32, low=-1, high=1):
    return spaces.Box(low, high, shape, kind)


@pytest.mark.parametrize(
    ("changes", "kinds", "words"),
    [
        ({"actions": np.zeros(5, np.int64)}, {"action_space": spaces.Discrete(3)}, "Discrete.*continuous"),
        ({}, {"action_space": box(3, low=-np.inf, high=np.inf)}, "finite bounds"),
        ({"actions": np.zeros((5, 3), np.int64)}, {"action_space": box(3, kind=np.int64)}, "continuous"),
        (
            {"observations": np.zeros((6, 8, 8, 3), np.uint8)},
            {"observation_space": box(8, 8, 3, kind=np.uint8, low=0, high=255)},
            "pixels",
        ),
        (
            {"observations": {"seen": np.zeros((6, 8, 8, 3), np.uint8)}},
            {"observation_space": spaces.Dict(seen=box(8, 8, 3, kind=np.uint8, low=0, high=255))},
            "pixels",
        ),
        ({"observations": np.full((6, 11), np.nan)}, {}, "NaN or infinite observations"),
        ({"rewards": np.full(5, 1e300)}, {}, "NaN or infinite rewards"),
        ({"actions": np.full((5, 3), np.nan, np.float32)}, {}, "NaN or infinite actions"),
        ({"observations": np.zeros((5, 11))}, {}, "one length"),
        ({"observations": np.zeros((6, 4))}, {}, "shape"),
        ({"actions": np.zeros((5, 2), np.float32)}, {}, "shape"),
    ],
)
def test_what_can_not_be_experience(tmp_path, changes, kinds, words):
    create("bad-v0", [buffer(5, **changes)], **kinds)
    with Experience(tmp_path / "a") as a:
        with pytest.raises(ExperienceError, match=words) as told:
            import_minari(a, "bad-v0")
        assert "'bad-v0'" in str(told.value)
        assert "\n" not in str(told.value)
        assert a.total == 0


def test_what_is_not_there(tmp_path, datasets):
    with Experience(tmp_path / "a") as a:
        with pytest.raises(ExperienceError, match="minari download mujoco/hopper/expert-v0"):
            import_minari(a, "mujoco/hopper/expert-v0")
        with pytest.raises(ExperienceError, match=r"\.\./x.*neither a folder"):
            import_minari(a, "../x")
        assert not datasets.exists()


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"dataset_id": "x-v0", "env_spec": "{}"}', "\xff"])
def test_damaged_metadata(tmp_path, datasets, damage):
    create("hopper-v0", [buffer(5)])
    (datasets / "hopper-v0/data/metadata.json").write_bytes(damage.encode("latin-1"))
    with Experience(tmp_path / "a") as a, pytest.raises(ExperienceError, match=r"metadata\.json"):
        import_minari(a, "hopper-v0")


def test_damaged_data(tmp_path, datasets):
    create("hopper-v0", [buffer(50)])
    file = datasets / "hopper-v0/data/main_data.hdf5"
    file.write_bytes(file.read_bytes()[:1000])
    with Experience(tmp_path / "a") as a, pytest.raises(ExperienceError, match="can't be read"):
        import_minari(a, "hopper-v0")


def test_a_strangers_environment_is_never_made(tmp_path, datasets):
    create("hopper-v0", [buffer(5)])
    file = datasets / "hopper-v0/data/metadata.json"
    metadata = json.loads(file.read_text())
    spec = json.loads(metadata["env_spec"]) | {"entry_point": "pathlib:Path.touch"}
    del metadata["action_space"]
    file.write_text(json.dumps(metadata | {"env_spec": json.dumps(spec)}))
    with Experience(tmp_path / "a") as a, pytest.raises(ExperienceError, match="spaces"):
        import_minari(a, "hopper-v0")


def test_names_that_can_not_be(tmp_path, datasets):
    with filled(tmp_path / "a") as a, Experience(tmp_path / "empty") as empty:
        for name in ("walk", "../walk-v0", "/tmp/walk-v0", "a//../walk-v0", "walk v0", "a/walk-v0", ""):
            with pytest.raises(ExperienceError, match="walker/walk-v0"):
                export_minari(a, name, task="walk")
        with pytest.raises(ExperienceError, match="run, walk; say which"):
            export_minari(a, "walk-v0")
        with pytest.raises(ExperienceError, match="no episodes of fly; there are: run, walk"):
            export_minari(a, "walk-v0", task="fly")
        with pytest.raises(ExperienceError, match="no episodes to export"):
            export_minari(empty, "walk-v0")
        empty.begin([0.0], task="walk")
        with pytest.raises(ExperienceError, match="no decisions of walk to export"):
            export_minari(empty, "walk-v0")
        export_minari(a, "walk-v0", task="walk")
        with pytest.raises(ExperienceError, match="there already"):
            export_minari(a, "walk-v0", task="walk")
        a.append(invented(3, 5, 1), task="walk")
        with pytest.raises(ExperienceError, match="several sizes"):
            export_minari(a, "walk-v1", task="walk")


def test_without_the_package(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "minari"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "minari", None)
    with filled(tmp_path / "a") as a:
        for job in (import_minari, export_minari):
            with pytest.raises(ExperienceError, match=r"pip install 'preplay\[train,minari\]'"):
                job(a, "walk-v0")
