import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agent.two_hot import TwoHot, symexp, symlog

HEAD = TwoHot(101, 10.0)


@given(st.floats(-2e4, 2e4, width=32))
def test_decoding_undoes_encoding(x):
    value = torch.tensor([x])
    target = HEAD.encode(value)
    assert target.sum().item() == pytest.approx(1, abs=1e-5)
    assert (target > 0).sum() <= 2
    torch.testing.assert_close(HEAD.decode(target.clamp(min=1e-30).log()), value, rtol=2e-3, atol=2e-3)


def test_values_beyond_the_range_land_on_the_last_bin():
    assert HEAD.encode(torch.tensor([1e9]))[0, -1] == 1
    assert HEAD.encode(torch.tensor([-1e9]))[0, 0] == 1


def test_symlog_and_symexp_are_inverse():
    x = torch.linspace(-50, 50, 101)
    torch.testing.assert_close(symexp(symlog(x)), x)


def test_the_loss_is_least_at_the_target():
    target = HEAD.encode(torch.tensor([3.0]))
    right, wrong = target.clamp(min=1e-6).log(), HEAD.encode(torch.tensor([5.0])).clamp(min=1e-6).log()
    assert HEAD.loss(right, target) < HEAD.loss(wrong, target)
