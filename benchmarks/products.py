"""The matrix products of a computation, and how long they take by themselves: what lies between them is the rest."""

import time
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Layout = tuple[tuple[int, ...], tuple[int, ...]]
"""Sizes and strides of a matrix, or of a batch of them."""
Products = Counter[tuple[Layout, Layout]]
"""How often matrices of two layouts are multiplied."""

_TIMES = 50


def products_of(run: Callable[[], object]) -> Products:
    """The matrix products of a call that is not compiled."""
    with _Recorder() as recorder:
        run()
    return recorder.found


def flops(products: Products) -> int:
    """Floating-point operations, a multiplication and an addition as two."""
    return sum(times * 2 * torch.Size(left).numel() * right[-1] for ((left, _), (right, _)), times in products.items())


def seconds_alone(products: Products) -> float:
    """How long they take one after the other, each on the same matrices again and again, as in a cache."""
    return sum(times * _seconds(_matrix(left), _matrix(right)) for (left, right), times in products.items())


class _Recorder(TorchDispatchMode):
    """Counts the products of what is called meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Products = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, tensors = function.overloadpacket.__name__, [x for x in args if isinstance(x, Tensor)]
        if name in ("mm", "bmm"):
            self._count(*tensors)
        elif name in ("addmm", "baddbmm"):
            self._count(*tensors[1:])
        else:
            with self:  # matmul and linear come in one piece where no gradients can be wanted
                parts = function.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        return function(*args, **(kwargs or {}))

    def _count(self, left: Tensor, right: Tensor) -> None:
        self.found[(tuple(left.shape), left.stride()), (tuple(right.shape), right.stride())] += 1


def _matrix(layout: Layout) -> Tensor:
    sizes, strides = layout
    if 0 in strides:  # one matrix for all of a batch
        distinct = [size if stride else 1 for size, stride in zip(sizes, strides, strict=True)]
        return torch.randn(distinct).expand(sizes)
    return torch.empty_strided(sizes, strides).normal_()


def _seconds(left: Tensor, right: Tensor) -> float:
    taken = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        torch.matmul(left, right)
        taken.append(time.perf_counter() - began)
    return median(taken)
