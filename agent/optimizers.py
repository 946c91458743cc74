"""An optimiser's state as named tensors, for files that hold nothing else."""

import torch
from torch import Tensor


def optimizer_tensors(name: str, optimizer: torch.optim.Optimizer, begun: bool) -> dict[str, Tensor]:
    """An Adam optimiser's moments and step counts, under names that begin with `name`.

    Args:
        name: begins every name.
        optimizer: whose parameters may not have any yet.
        begun: whether it has made a step; before, there is nothing to keep.
    """
    tensors: dict[str, Tensor] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, parameter in enumerate(parameters if begun else ()):
        kept = optimizer.state.get(parameter) or {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
        tensors |= {f"{name}.{i}.{key}": x for key, x in kept.items()}
    return tensors


def restore_optimizer(name: str, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The reverse of `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, x in tensors.items():
        prefix, _, rest = key.partition(".")
        if prefix == name:
            i, _, what = rest.partition(".")
            # A copy, since where memory begins can decide which of its instructions a matrix library takes.
            state.setdefault(int(i), {})[what] = x.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
