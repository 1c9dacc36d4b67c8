"""Products with a matrix laid out beforehand, against torch; and when a weight is laid out."""

import pytest
import torch
from torch import nn

from tunesmith.models import packed
from tunesmith.models.kernels import product as kernel
from tunesmith.models.linear import Projection
from tunesmith.models.packed import Packed, frozen
from tunesmith.models.weight import Plain

needs_kernel = pytest.mark.skipif(
    not kernel.available(), reason="no products of bf16 pairs here, or better ones"
)


def _random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(torch.bfloat16)


@needs_kernel
def test_product_by_hand():
    x = torch.tensor([[1.0, 2.0], [3.0, -4.0]], dtype=torch.bfloat16)
    b = torch.tensor([[1.0, 0.5, 0.0], [2.0, 0.0, 1.0]], dtype=torch.bfloat16)
    bias = torch.tensor([0.0, 10.0, 0.0], dtype=torch.bfloat16)
    expected = torch.tensor([[5.0, 10.5, 2.0], [-5.0, 11.5, -4.0]], dtype=torch.bfloat16)
    assert torch.equal(kernel.product(x, kernel.lay(b), bias), expected)
    thin = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.bfloat16)
    update = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 8.0]], dtype=torch.bfloat16)
    got = kernel.product(x, kernel.lay(b), None, (thin, kernel.lay(update)))
    expected = torch.tensor([[6.0, 1.5, 3.0], [-5.0, 1.5, 12.0]], dtype=torch.bfloat16)
    assert torch.equal(got, expected)


@needs_kernel
@pytest.mark.parametrize("rows", [1, 5, 6, 7, 96, 97, 301])
@pytest.mark.parametrize(
    ("inner", "columns", "rank"), [(2, 1, 0), (64, 63, 2), (576, 100, 16), (5000, 48, 6)]
)
def test_product_is_the_exact_one_rounded(rows, inner, columns, rank):
    x, b = _random(rows, inner), _random(columns, inner, seed=1).t()
    bias = _random(columns, seed=2)
    thin = (_random(rows, rank, seed=3), _random(rank, columns, seed=4)) if rank else None
    exact = x.double() @ b.double() + bias.double()
    if thin:
        exact += thin[0].double() @ thin[1].double()
    got = kernel.product(x, kernel.lay(b), bias, thin and (thin[0], kernel.lay(thin[1])))
    # bf16 keeps 8 bits: half a unit in the last place of each number, and fp32 sums far below it.
    torch.testing.assert_close(got.double(), exact, rtol=2**-8, atol=1e-4 * inner**0.5)


@needs_kernel
def test_blocks_leave_out_only_what_is_zero():
    x, b = _random(9, 64), _random(64, 320, seed=1)
    thin, update = _random(9, 12, seed=2), torch.zeros(12, 320, dtype=torch.bfloat16)
    blocks = [(slice(0, 3), slice(0, 100)), (slice(3, 12), slice(100, 320))]
    for rows, columns in blocks:
        update[rows, columns] = _random(12, 320, seed=3)[rows, columns]
    laid = kernel.lay(update, blocks)
    assert laid.ranges.tolist() == [[0, 2], [0, 6], [1, 6], [1, 6], [1, 6]]
    whole = kernel.product(x, kernel.lay(b), None, (thin, kernel.lay(update)))
    assert torch.equal(kernel.product(x, kernel.lay(b), None, (thin, laid)), whole)


@needs_kernel
@pytest.mark.parametrize("columns", [2, 16, 48])
def test_narrow_panels_give_the_same(columns):
    x, b = _random(101, 320), _random(320, columns, seed=1)
    wide, narrow = kernel.lay(b), kernel.lay(b, narrow=True)
    assert torch.equal(kernel.product(x, narrow), kernel.product(x, wide))


@needs_kernel
def test_outer_by_hand():
    t = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]], dtype=torch.bfloat16)
    x = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]], dtype=torch.bfloat16)
    assert kernel.outer(t, x).tolist() == [[13.0, 130.0], [4.0, 40.0]]


@needs_kernel
@pytest.mark.parametrize("rows", [1, 2, 63, 200])
@pytest.mark.parametrize(
    "blocks", [(), [(slice(0, 8), slice(0, 70)), (slice(8, 24), slice(70, 99))]]
)
def test_outer_is_the_exact_sum(rows, blocks):
    t, x = _random(rows, 24), _random(rows, 99, seed=1)
    got, exact = kernel.outer(t, x, blocks).double(), t.double().t() @ x.double()
    for ranks, columns in blocks or [(slice(None), slice(None))]:
        torch.testing.assert_close(
            got[ranks, columns], exact[ranks, columns], rtol=1e-5, atol=1e-5 * rows
        )


@needs_kernel
def test_bits_do_not_depend_on_threads_or_rows():
    x, b = _random(200, 3000), kernel.lay(_random(3000, 130, seed=1))
    whole = kernel.product(x, b)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(kernel.product(x, b), whole)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.cat([kernel.product(x[:37], b), kernel.product(x[37:], b)]), whole)


@needs_kernel
def test_a_frozen_weight_is_laid_out_once_and_anew_when_it_changes():
    weight = nn.Parameter(_random(32, 16), requires_grad=False)
    first = frozen(weight, torch.bfloat16)
    assert isinstance(first, Packed)
    assert frozen(weight, torch.bfloat16) is first
    with torch.no_grad():
        weight.mul_(2)
    x = _random(3, 16, seed=1)
    torch.testing.assert_close(frozen(weight, torch.bfloat16).times(x), x @ weight.t())


@needs_kernel
def test_bits_do_not_depend_on_free_memory(monkeypatch):
    weight, x, y = _random(130, 70), _random(9, 70, seed=1), _random(9, 130, seed=2)
    kept = frozen(weight, torch.bfloat16)
    monkeypatch.setattr(packed, "FREE", 1.0)
    scarce = frozen(weight.clone(), torch.bfloat16)
    assert kept.kept is not None
    assert scarce.kept is None
    assert torch.equal(kept.times(x), scarce.times(x))
    assert torch.equal(kept.times_transposed(y), scarce.times_transposed(y))


@pytest.mark.parametrize("shape", [(32, 15), (31, 16)])
def test_odd_sizes_stay_as_they_are(shape):
    assert isinstance(frozen(_random(*shape), torch.bfloat16), Plain)


@needs_kernel
def test_a_projection_reads_the_layout_only_while_its_weight_is_frozen():
    layer = nn.Linear(16, 32, bias=True, dtype=torch.bfloat16)
    x = _random(5, 16)
    for trained in (True, False):
        layer.requires_grad_(trained)
        torch.testing.assert_close(Projection([layer])(x, torch.bfloat16), layer(x))
        kind = type(Projection([layer])._weight(Projection([layer])._parts(), torch.bfloat16))
        assert kind is (Plain if trained else Packed)
