"""Products of rows rounded to whole numbers, against exact sums, on every width of vectors."""

import ctypes
import os
import shutil

import pytest
import torch

from tunesmith.models.int8 import Int8Linear, Int8Weight
from tunesmith.models.kernels import build, product, whole
from tunesmith.models.kernels.int8 import quantize_rows

OWN = "this processor"


@pytest.fixture(scope="module")
def library_of(tmp_path_factory):
    """The kernels, compiled for vectors as wide as those of other processors, spelled out in C."""
    made = {}

    def library(lanes):
        if build.library() is None:
            pytest.skip("no C compiler here")
        if lanes not in made:
            path = tmp_path_factory.mktemp("kernels") / f"{lanes}.so"
            compiler = os.environ.get("CC") or shutil.which("cc")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(build, "_FLAGS", (*build._FLAGS, f"-DSPELLED_OUT={lanes}"))
                build._compile(compiler, build._openmp_of_torch(), path)
            made[lanes] = ctypes.CDLL(str(path))
        return made[lanes]

    return library


@pytest.fixture(params=[OWN, 8, 16])
def lanes(request, library_of, monkeypatch):
    """Vectors of this processor; then those of processors that multiply bytes."""
    monkeypatch.setattr(build, "has_tiles", lambda kind: False)
    if request.param != OWN:
        found = library_of(request.param)
        monkeypatch.setattr(build, "library", lambda: found)
    elif not whole.available():
        pytest.skip("no products of whole numbers here")
    whole.available.cache_clear()
    assert whole.available()
    yield request.param
    whole.available.cache_clear()


def _numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _whole(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator)


def _exact(x, b, segments, factor):
    """(X factor) B in fp64, of X as it is rounded."""
    total = 0
    for part in segments:
        values, scale = quantize_rows(x[:, part], factor[part])
        total = total + (values.long() @ b[part].long()).double() * scale.double()[:, None]
    return total


def test_product_by_hand(lanes):
    x = torch.tensor([[127.0, 1.0, 0.0, -2.0], [0.0, 0.0, 0.0, 0.0], [254.0, 0.0, 0.0, 1.0]])
    b = torch.tensor([[1, -3], [2, 0], [5, 127], [-4, 10]], dtype=torch.int8)
    segments, scale, bias = (slice(0, 4),), torch.tensor([1.0, 0.5]), torch.tensor([0.0, 1.0])
    # Scales 1, 0 and 2; in the last row 0.5 goes to the even 0.
    expected = torch.tensor([[137.0, -199.5], [0.0, 1.0], [254.0, -380.0]])
    got = whole.product(x, b, segments, None, scale, bias)
    torch.testing.assert_close(got, expected)
    thin = (torch.tensor([[1.0], [2.0], [0.0]]), whole.lay_thin(torch.tensor([[10.0, -1.0]])))
    more = torch.tensor([[10.0, -1.0], [20.0, -2.0], [0.0, 0.0]])
    got = whole.product(x, b, segments, None, scale, bias, thin)
    torch.testing.assert_close(got, expected + more)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 5, 6, 48, 49, 230])
@pytest.mark.parametrize(
    ("ends", "columns", "rank"),
    [((4,), 1, 0), ((64,), 63, 2), ((576,), 100, 16), ((200, 264, 328), 128, 7), ((5000,), 17, 1)],
)
def test_product_is_the_exact_one_rounded(lanes, rows, ends, columns, rank, dtype):
    segments = tuple(map(slice, (0, *ends), ends))
    x, factor, scale = (
        _numbers(rows, ends[-1]).to(dtype),
        _numbers(ends[-1]).abs(),
        _numbers(columns),
    )
    bias = _numbers(columns, seed=1).to(dtype)
    t, c = _numbers(rows, rank, seed=2).to(dtype), _numbers(rank, columns, seed=3).to(dtype)
    thin = (t, whole.lay_thin(c)) if rank else None
    for b in (_whole(ends[-1], columns), _whole(columns, ends[-1]).t()):
        assert whole.serves(b, segments)
        got = whole.product(x, b, segments, factor, scale, bias, thin)
        exact = _exact(x, b, segments, factor) * scale.double() + bias.double()
        exact += t.double() @ c.double()
        assert got.dtype is dtype
        limit = 2**-8 if dtype is torch.bfloat16 else 1e-6
        torch.testing.assert_close(got.double(), exact, rtol=limit, atol=2e-6 * exact.abs().max())


def test_the_largest_sums_are_exact(lanes):
    x, b = torch.full((7, 4096), -3.0), torch.full((4096, 20), 127, dtype=torch.int8)
    got = whole.product(x, b, (slice(0, 4096),))
    torch.testing.assert_close(got, torch.full((7, 20), -3.0 * 127 * 4096))


def test_blocks_leave_out_only_what_is_zero(lanes):
    x, b, t = _numbers(9, 64), _whole(64, 320), _numbers(9, 12, seed=2)
    blocks = [(slice(0, 3), slice(0, 100)), (slice(3, 12), slice(100, 320))]
    c = torch.zeros(12, 320)
    for ranks, columns in blocks:
        c[ranks, columns] = _numbers(12, 320, seed=3)[ranks, columns]
    segments, laid = (slice(0, 64),), whole.lay_thin(c, blocks)
    assert laid.ranges[0].tolist() == [0, 3]
    assert laid.ranges[-1].tolist() == [3, 12]
    got = whole.product(x, b, segments, thin=(t, laid))
    assert torch.equal(got, whole.product(x, b, segments, thin=(t, whole.lay_thin(c))))


def test_bits_do_not_depend_on_threads_or_rows(lanes):
    x, b, segments = _numbers(400, 3000), _whole(3000, 130), (slice(0, 1000), slice(1000, 3000))
    got = whole.product(x, b, segments)
    before = torch.get_num_threads()
    try:
        for threads in (1, 40):
            torch.set_num_threads(threads)
            assert torch.equal(whole.product(x, b, segments), got)
    finally:
        torch.set_num_threads(before)
    parts = [whole.product(part, b, segments) for part in x.split([37, 363])]
    assert torch.equal(torch.cat(parts), got)


def test_a_row_that_is_not_finite_leaves_the_others(lanes):
    x, b = _numbers(8, 64), _whole(64, 20)
    x[3, 5] = float("nan")
    got = whole.product(x, b, (slice(0, 64),))
    assert not got[3].isfinite().any()
    assert got[[0, 1, 2, 4, 5, 6, 7]].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_give_what_torch_makes_of_them(lanes, dtype, monkeypatch):
    layers = [torch.nn.Linear(64, width, bias=False) for width in (96, 32, 32)]
    weight = Int8Linear.together([Int8Linear(layer) for layer in layers])
    x, d_y = _numbers(50, 64).to(dtype), _numbers(50, 160, seed=1).to(dtype)
    assert weight.served
    got = weight.times(x), weight.times_transposed(d_y)
    monkeypatch.setattr(Int8Weight, "served", False)
    expected = weight.times(x), weight.times_transposed(d_y)
    limit = 1e-6 if dtype is torch.float32 else 2**-7
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=limit, atol=1e-6)


@pytest.mark.parametrize("shape", [(63, 64), (64, 63)])
def test_what_is_no_whole_number_of_groups_goes_to_torch(lanes, shape):
    assert not Int8Linear.together([Int8Linear(torch.nn.Linear(*shape))]).served


@pytest.mark.parametrize(("tiles", "kernel"), [("int8", whole), ("bf16", product)])
def test_processors_that_multiply_tiles_are_left_to_torch(tiles, kernel, monkeypatch):
    monkeypatch.setattr(build, "_processor", lambda: f"flags : avx2 amx_{tiles} fma")
    caches = (build.has_tiles, kernel.available)
    for cached in caches:
        cached.cache_clear()
    try:
        assert not kernel.available()
    finally:
        monkeypatch.undo()
        for cached in caches:
            cached.cache_clear()
