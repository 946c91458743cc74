"""Older descriptions of checkpoints, brought up to date.

A migration takes what `config.json` of one schema says and returns what the next schema would say. It is a pure
function: it reads no files, knows nothing of the code of today, and is not changed once its schema has been used.
`tests/golden` holds checkpoints of every schema.

    1  named the weights alone, as {"file", "sha256"}. The oldest have no `angles`.
    2  lists the folder's files, each with its SHA-256 and size, and has a SHA-256 of its own content.
    3  has settings that an agent of schema 2 can't name: what it was before there was a choice.
    4  likewise, of schema 3.
    5  likewise, of schema 4; and is without two settings that came to nothing, which no agent that ships had changed.
    6  is without residual encoders, which lost their ablation. An agent that has one is refused.
    7  says how much of the actions taken the policy imitates. It was all of them, alike.
    8  says where exploration is random. It never was.
    9  says in how many episodes exploration is wide. It was in all.
    10 has neither of these two, which came to nothing. They concerned training alone: agents go on without them, and
       runs that had them are refused, see `check_run`.
"""

from collections.abc import Callable
from typing import Any

from agent.errors import CheckpointError, ConfigError

Description = dict[str, Any]
SCHEMA = 10
"""What is written today."""


def check_schema(description: Description, what: object) -> None:
    """Makes sure that a description is of a schema that this version knows.

    Raises:
        CheckpointError: with `what`, the file's name.
    """
    schema = description.get("schema")
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise CheckpointError(
            f"{what} has schema {repr(schema)[:80]}; this version of preplay reads schemas 1 to {SCHEMA}; if it comes "
            "from a newer preplay, load it with that"
        )


def migrate_config(config: Description, schema: int) -> Description:
    """A configuration as agents of a schema from 3 on have it, as one of today's. The states of runs need it too.

    Raises:
        ConfigError: when it asks for what is gone.
        KeyError, TypeError: when it is no such thing.
    """
    for older in range(schema, SCHEMA):
        config = _CONFIGS[older](config)
    return config


def check_run(config: Description) -> None:
    """Makes sure that a run whose state has this configuration can go on as it began.

    Runs that never search are refused with the others, though these settings made no difference to them.

    Raises:
        ConfigError: when it explores in a way that is gone.
        KeyError, TypeError: when it is no configuration.
    """
    for name, value, without in (
        ("planning.doubt", _part(config, "planning").get("doubt", 0), 0),
        ("wide_share", config.get("wide_share", 1), 1),
    ):
        if value != without:
            raise ConfigError(
                f"{name} is {str(value)[:20]}, and it was taken out; go on with preplay as it was at commit 944eba5"
            )


def migrate(description: Description, what: object) -> Description:
    """A description of any schema, as one of today's.

    Raises:
        CheckpointError: for a schema that this version doesn't know, an old description that is no such thing, or one
            that asks for what is gone.
    """
    check_schema(description, what)
    schema = description["schema"]
    try:
        while schema in _MIGRATIONS:
            description = _MIGRATIONS[schema](description)
            schema = description["schema"]
        return description | {"schema": SCHEMA, "config": migrate_config(description["config"], schema)}
    except ConfigError as error:
        raise CheckpointError(f"{what} does not fit this version of preplay: {error}") from None
    except (KeyError, TypeError):
        raise CheckpointError(f"{what} lacks what schema {schema} has; it is damaged") from None


def _from_1(old: Description) -> Description:
    weights = old["weights"]
    files = {weights["file"]: {"sha256": weights["sha256"], "bytes": None}}
    new = {"files" if key == "weights" else key: files if key == "weights" else x for key, x in old.items()}
    return {"angles": [], "decisions": None, "precision": "float32"} | new | {"schema": 2}


def _from_2(old: Description) -> Description:
    before: dict[str, Any] = {
        "noise_time": 0.0,
        "model": {"encoder_blocks": 0, "reward_head": "own"},
        "planning": {"bootstrap": "last"},
        "learner": {"contrast_weight": 0.0, "slow_encoder": False, "imitation_weight": 0.0, "priority_exponent": 0.0},
    }
    config = before | old["config"]
    for section in ("model", "planning", "learner"):
        config[section] = before[section] | old["config"].get(section, {})
    return old | {"schema": 3, "config": config}


def _config_from_3(old: Description) -> Description:
    planning = {"indifference": 0.0} | _part(old, "planning")
    learner = {"policy_scale": "values"} | _part(old, "learner")
    return {"compile": False} | old | {"planning": planning, "learner": learner}


def _config_from_4(old: Description) -> Description:
    planning, learner = {"pessimism": 0.0} | _part(old, "planning"), _part(old, "learner")
    planning.pop("distrust", None)
    learner.pop("policy_scale", None)
    return old | {"planning": planning, "learner": learner}


def _config_from_5(old: Description) -> Description:
    model = _part(old, "model")
    if blocks := model.pop("encoder_blocks", 0):
        raise ConfigError(
            f"model.encoder_blocks is {str(blocks)[:20]}, and residual encoders were taken out; use preplay as it was "
            "at commit 44122b8"
        )
    return old | {"model": model}


def _config_from_6(old: Description) -> Description:
    return old | {"learner": {"imitation_temperature": None} | _part(old, "learner")}


def _config_from_7(old: Description) -> Description:
    return old | {"planning": {"doubt": 0.0} | _part(old, "planning")}


def _config_from_8(old: Description) -> Description:
    return {"wide_share": 1.0} | old


def _config_from_9(old: Description) -> Description:
    planning, new = _part(old, "planning"), {} | old
    planning.pop("doubt", None)
    new.pop("wide_share", None)
    return new | {"planning": planning}


def _part(config: Description, name: str) -> Description:
    """A copy of a section of a configuration, which may lack it.

    Written by hand, either may be no dictionary: then this is a TypeError, which readers tell as a damaged file.
    """
    return {} | dict.get(config, name, {})


_MIGRATIONS: dict[int, Callable[[Description], Description]] = {1: _from_1, 2: _from_2}
# From schema 3 on, configurations alone have changed.
_CONFIGS: dict[int, Callable[[Description], Description]] = {
    3: _config_from_3,
    4: _config_from_4,
    5: _config_from_5,
    6: _config_from_6,
    7: _config_from_7,
    8: _config_from_8,
    9: _config_from_9,
}
