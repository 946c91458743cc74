"""Which segments a reservoir keeps."""

from collections.abc import Iterable

import numpy as np


def kept(seed: int, slots: int, sealed: Iterable[int]) -> set[int]:
    """Algorithm R (Vitter 1985, doi 10.1145/3147.3165): each of those that came so far is kept equally likely.

    A pure function: what is drawn for the n-th segment depends on the seed and on n alone.

    Args:
        seed: of the store.
        slots: how many are kept.
        sealed: numbers 1, 2, ... in the order that they came.
    """
    reservoir: list[int] = []
    for number in sealed:
        if len(reservoir) < slots:
            reservoir.append(number)
            continue
        # SeedSequence's output is the same in every version of NumPy, which a Generator's is not.
        high, low = np.random.SeedSequence([seed, number]).generate_state(2, np.uint64).tolist()
        place = ((high << 64) | low) % number
        if place < slots:
            reservoir[place] = number
    return set(reservoir)
