"""Action sequences with fewer degrees of freedom: knots, and what lies between them."""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from planners.errors import PlannerError

Interpolation = Literal["zero", "linear", "cubic"]
INTERPOLATIONS = ("zero", "linear", "cubic")


class _Matrices(NamedTuple):
    expand: Float[Tensor, "H K"]
    project: Float[Tensor, "K H"]


class Knots:
    """Turns the actions at `count` knots, even over the horizon, into one action a decision, and back.

    As in predictive sampling (Howell et al., arXiv 2212.00541): fewer numbers to search for, and smoother actions.
    `zero` holds each knot's action until the next one; `linear` joins them by lines; `cubic` by a natural spline.
    Every scheme is linear in the knots, so that both ways are matrix products.

    Args:
        horizon: decisions, H.
        count: knots, K, from 1 to H.
        interpolation: `zero`, `linear` or `cubic`. A planner's configuration sees to it that these make sense.
    """

    def __init__(self, horizon: int, count: int, interpolation: Interpolation) -> None:
        basis = torch.from_numpy(_basis(horizon, count, interpolation))
        # By device, kept where they were used: while a CUDA graph is recorded nothing may come from the CPU.
        self._matrices = {torch.device("cpu"): _Matrices(basis.float(), torch.linalg.pinv(basis).float())}

    def expand(self, knots: Float[Tensor, "*S K A"]) -> Float[Tensor, "*S H A"]:
        """One action a decision. A spline may leave the box between its knots; it is clipped there."""
        return (self._on(knots.device).expand @ knots).clamp(-1, 1)

    def project(self, actions: Float[Tensor, "*S H A"]) -> Float[Tensor, "*S K A"]:
        """The knots in the box that come near to given actions: least squares, clipped."""
        return (self._on(actions.device).project @ actions).clamp(-1, 1)

    def expand_std(self, std: Float[Tensor, "*S K A"]) -> Float[Tensor, "*S H A"]:
        """Standard deviations of the decisions' actions, for knots that vary independently."""
        return (self._on(std.device).expand ** 2 @ std**2).sqrt()

    def pull_back(self, slopes: Float[Tensor, "*S H A"]) -> Float[Tensor, "*S K A"]:
        """Gradients with respect to the knots, from those with respect to the actions."""
        return self._on(slopes.device).expand.T @ slopes

    def _on(self, device: torch.device) -> _Matrices:
        if device not in self._matrices:
            self._matrices[device] = _Matrices(*(x.to(device) for x in self._matrices[torch.device("cpu")]))
        return self._matrices[device]


def _basis(horizon: int, count: int, interpolation: Interpolation) -> np.ndarray:
    """(H, K): how much each decision's action takes from each knot."""
    one_each = np.eye(count)
    if count == 1:
        return np.ones((horizon, 1))
    if interpolation == "zero":
        return one_each[np.arange(horizon) * count // horizon]
    places, decisions = np.linspace(0, horizon - 1, count), np.arange(horizon)
    scipy = _scipy(interpolation)
    if interpolation == "linear":
        return scipy.interpolate.make_interp_spline(places, one_each, k=1)(decisions)
    return scipy.interpolate.CubicSpline(places, one_each, bc_type="natural")(decisions)


def _scipy(interpolation: str) -> Any:
    """SciPy takes a while to import, and only those who use knots need it."""
    try:
        import scipy.interpolate
    except ImportError:
        raise PlannerError(
            f"interpolation is {interpolation!r}, which needs SciPy; choose 'zero', or pip install scipy"
        ) from None
    return scipy
