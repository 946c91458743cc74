import torch
import torch.nn.functional as F

from agent.networks import EnsembleMLP, ObservationNorm, SimplicialNorm


def test_every_simplex_sums_to_one():
    out = SimplicialNorm(8)(torch.randn(3, 5, 32) * 10)
    assert out.shape == (3, 5, 32)
    torch.testing.assert_close(out.unflatten(-1, (8, 4)).sum(-2), torch.ones(3, 5, 4))
    assert (out >= 0).all()


def test_an_ensemble_is_its_members_one_by_one():
    torch.manual_seed(0)
    ensemble = EnsembleMLP(3, 4, 8, 2)
    for parameter in ensemble.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(7, 4)
    out = ensemble(x)
    for i in range(3):
        h = x
        for layer in range(3):
            h = h @ ensemble.weights[layer][i] + ensemble.biases[layer][i]
            if layer < 2:
                h = F.silu(F.layer_norm(h, (8,)) * ensemble.scales[layer][i] + ensemble.shifts[layer][i])
        torch.testing.assert_close(out[i], h, rtol=1e-4, atol=1e-4)


def test_a_frozen_ensemble_passes_gradients_on_but_takes_none():
    ensemble = EnsembleMLP(2, 3, 8, 2)
    torch.nn.init.normal_(ensemble.weights[2])
    x = torch.randn(5, 3, requires_grad=True)
    ensemble(x, frozen=True).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in ensemble.parameters())


def test_running_statistics_equal_those_of_all_data_at_once():
    torch.manual_seed(0)
    data = torch.randn(100, 4) * torch.tensor([1.0, 10.0, 0.1, 3.0]) + 5
    norm = ObservationNorm(4, clip=10.0)
    for chunk in data.split([1, 9, 40, 50]):
        norm.update(chunk)
    torch.testing.assert_close(norm.mean, data.mean(0))
    torch.testing.assert_close(norm.var, data.var(0, unbiased=False), rtol=1e-3, atol=1e-3)
    assert norm(data * 1e6).abs().max() <= 10


def test_an_element_that_never_moves_is_not_blown_up():
    norm = ObservationNorm(1, clip=10.0)
    norm.update(torch.full((50, 1), 2.0))
    assert norm(torch.full((1, 1), 2.001)).abs() < 0.2
