"""Tensors of different sizes as one, padded with zeros, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor


def stack(tensors: Sequence[Tensor], halves: bool = False) -> Tensor:
    """Tensors of as many dimensions each along a new leading axis, every dimension as long as the longest's.

    Args:
        tensors: one an agent. What comes out has no part in their gradients.
        halves: the first dimension consists of two halves, each padded by itself.

    Returns:
        (n, ...), zeros where a tensor is shorter.
    """
    if halves:
        return stack([x.unflatten(0, (2, -1)) for x in tensors]).flatten(1, 2)
    tensors = [x.detach() for x in tensors]
    if all(x.shape == tensors[0].shape for x in tensors):
        return torch.stack(tensors)
    sizes = [max(sizes) for sizes in zip(*(x.shape for x in tensors), strict=True)]
    stacked = tensors[0].new_zeros((len(tensors), *sizes))
    for row, x in zip(stacked, tensors, strict=True):
        row[tuple(slice(size) for size in x.shape)].copy_(x)
    return stacked


def cut(row: Tensor, like: Tensor, halves: bool = False) -> Tensor:
    """What belongs to one agent in its row of a stack.

    Args:
        row: (...) of `stack`.
        like: of the shape that the agent's own tensor has.
        halves: as in `stack`.
    """
    if row.shape == like.shape:
        return row
    if halves:
        return cut(row.unflatten(0, (2, -1)), like.unflatten(0, (2, -1))).flatten(0, 1)
    return row[tuple(slice(size) for size in like.shape)].contiguous()
