"""Computations on a GPU that are recorded once and replayed as a whole."""

from collections.abc import Callable

import torch


class Recorded:
    """A CUDA graph of a function that reads and writes tensors which stay where they are.

    Hundreds of small operations are begun one by one in many milliseconds; replayed, they take as long as the GPU
    needs for them.

    Args:
        compute: is called a few times at once, to try out and to record it. It must not look at a value.
    """

    _TRIALS = 3  # after which libraries have chosen how to compute, as torch's notes on CUDA graphs ask for

    def __init__(self, compute: Callable[[], None]) -> None:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(self._TRIALS):
                compute()
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            compute()

    def __call__(self) -> None:
        """Does it all again."""
        self._graph.replay()
