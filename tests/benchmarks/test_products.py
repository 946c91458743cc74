"""Which matrices a computation multiplies."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.products import flops, products_of, seconds_alone


def computation():
    """One of each kind: a layer, a layer for a batch with other axes, and an ensemble's, whose inputs are one."""
    layer, ensemble = torch.nn.Linear(5, 3), torch.randn(2, 3, 4)
    rows, one = torch.randn(7, 5), torch.randn(6, 3)

    def run():
        layer(rows)
        layer(rows.expand(2, 7, 5)).sum()
        rows.t() @ rows
        one.expand(2, 6, 3) @ ensemble
        torch.baddbmm(torch.zeros(2, 1, 4), one.expand(2, 6, 3), ensemble)

    return run


@pytest.mark.parametrize("grad", [True, False])
def test_every_product_is_found(grad):
    run = computation()
    with torch.inference_mode(not grad):
        products = products_of(run)
        with FlopCounterMode(display=False) as counter:
            run()
    assert flops(products) == counter.get_total_flops() > 0
    assert sum(products.values()) == 5


def test_they_can_be_timed_alone():
    assert 0 < seconds_alone(products_of(computation())) < 1
