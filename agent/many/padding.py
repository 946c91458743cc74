"""Tensors of different sizes as if they were of one, filled up with zeros, and back."""

from collections.abc import Sequence

from torch import Tensor


def pad(x: Tensor, shape: Sequence[int], halves: bool = False) -> Tensor:
    """A tensor with zeros at the end of every dimension that is shorter than it is to be.

    Args:
        x: of as many dimensions.
        shape: that it is to have.
        halves: the first dimension consists of two halves, each padded by itself.
    """
    if tuple(x.shape) == tuple(shape):
        return x
    if halves:
        return pad(x.unflatten(0, (2, -1)), (2, shape[0] // 2, *shape[1:])).flatten(0, 1)
    padded = x.new_zeros(tuple(shape))
    padded[tuple(slice(size) for size in x.shape)] = x
    return padded


def cut(padded: Tensor, like: Tensor, halves: bool = False) -> Tensor:
    """The reverse of `pad`.

    Args:
        padded: what `pad` returned.
        like: of the shape that comes out.
        halves: as in `pad`.
    """
    if padded.shape == like.shape:
        return padded
    if halves:
        return cut(padded.unflatten(0, (2, -1)), like.unflatten(0, (2, -1))).flatten(0, 1)
    return padded[tuple(slice(size) for size in like.shape)]
