import pytest
import torch

from agent import TrainConfig, configure_torch, precision

# What the processors of some machines say of themselves.
ZEN_5 = {"cpu_name": "AMD EPYC", "avx512_f": True, "amx_tile": False, "amx_bf16": False}
ZEN_3 = {"cpu_name": "AMD EPYC", "avx512_f": False}
INTEL = {"cpu_name": "Intel Xeon", "avx512_f": True}
AMX = {"cpu_name": "AMD of some day", "avx512_f": True, "amx_tile": True, "amx_bf16": True}


def runs_on(monkeypatch, processor, gpu=False, mkl=True):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)


@pytest.mark.parametrize(
    ("processor", "prefers"), [(ZEN_5, True), (ZEN_3, False), (INTEL, False), (AMX, False), ({}, False)]
)
def test_onednn_multiplies_where_mkl_leaves_half_of_the_processor_idle(monkeypatch, processor, prefers):
    runs_on(monkeypatch, processor)
    assert precision.prefers_onednn() == prefers


def test_a_gpu_or_another_library_is_left_alone(monkeypatch):
    runs_on(monkeypatch, ZEN_5, gpu=True)
    assert not precision.prefers_onednn()
    runs_on(monkeypatch, ZEN_5, mkl=False)
    assert not precision.prefers_onednn()


def test_full_precision_is_full_on_this_machine():
    generator = torch.Generator().manual_seed(0)
    sizes = [(1, 192, 192), (16, 192, 12), (128, 134, 192), (384, 192, 101)]
    factors = [(torch.randn(m, k, generator=generator), torch.randn(k, n, generator=generator)) for m, k, n in sizes]
    configure_torch(TrainConfig(matmul_precision="highest"))
    for left, right in factors:
        exact = left.double() @ right.double()
        for found in (left @ right, torch.bmm(left[None], right[None])[0], torch.addmm(torch.zeros(1), left, right)):
            assert (found - exact).abs().max() < 2e-6 * exact.abs().max()


def test_where_products_come_out_rounded_torch_keeps_its_own_choice(monkeypatch):
    runs_on(monkeypatch, ZEN_5)
    monkeypatch.setattr(precision, "_full", lambda: False)
    precision.set_matmul_precision("highest")
    assert torch.get_float32_matmul_precision() == "highest"


def test_rounded_products_are_noticed(monkeypatch):
    assert precision._full()
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: product(a.bfloat16(), b.bfloat16()).float())
    assert not precision._full()


@pytest.mark.parametrize("asked", ["high", "medium"])
def test_anything_else_is_what_was_asked_for(monkeypatch, asked):
    runs_on(monkeypatch, ZEN_5)
    precision.set_matmul_precision(asked)
    assert torch.get_float32_matmul_precision() == asked
