"""Attention over packs away from the CPU: which way is taken, and what each way is told."""

import inspect

import pytest
import torch

from tunesmith.models import flex, varlen, ways
from tunesmith.models.block_attention import attend
from tunesmith.models.segments import segments
from tunesmith.models.ways import Place
from tunesmith.testing import fake_gpu

LENGTHS = (3, 1, 150, 40)
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
BF16, FP32 = torch.bfloat16, torch.float32


def _qkv(lengths=LENGTHS):
    """Four query heads over two key heads, side by side as a projection leaves them."""
    torch.manual_seed(0)
    return torch.randn(sum(lengths), 8, 16).split([4, 2, 2], 1)


def _by_blocks(q, k, v, lengths, scale, window):
    """What the CPU computes; `test_attention` holds it against plain softmax attention."""
    q_GTRD = q.view(len(q), 2, 2, 16).transpose(0, 1).contiguous()
    k_GTD, v_GTD = (x.transpose(0, 1).contiguous() for x in (k, v))
    return attend(q_GTRD, k_GTD, v_GTD, segments(lengths), scale, window).view(len(q), 4, 16)


@pytest.fixture
def faked(monkeypatch):
    """The stand-in for torch's function, and what it was called with."""
    calls = []

    def record(*args, **kwargs):
        calls.append((args, kwargs))
        return fake_gpu.varlen_attn(*args, **kwargs)

    monkeypatch.setattr(varlen, "_function", lambda: record)
    return calls


# That it should be compiled: on a GPU it is.
UNFUSED = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@UNFUSED
@pytest.mark.parametrize("window", [None, 1, 8, 149, 150, 151])
@pytest.mark.parametrize("way", ["varlen", "flex", "segments"])
def test_every_way_sees_what_blocks_see(way, window, faked):
    function = {"varlen": varlen.attend, "flex": flex.attend, "segments": ways.by_segments}[way]
    q, k, v = _qkv()
    with torch.no_grad():  # On a CPU flex_attention has no backward pass.
        got = function(q, k, v, segments(LENGTHS), 0.3, window)
        expected = _by_blocks(q.contiguous(), k, v, LENGTHS, 0.3, window)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@UNFUSED
@pytest.mark.parametrize("lengths", [(128,), (100, 156), (1,)])
def test_a_mask_is_filled_up_to_whole_blocks_and_no_further(lengths):
    q, k, v = _qkv(lengths)
    with torch.no_grad():
        got = flex.attend(q, k, v, segments(lengths), 0.3, None)
        expected = _by_blocks(q.contiguous(), k, v, lengths, 0.3, None)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_boundaries_by_hand():
    bounds = varlen.boundaries((3, 1, 7), CPU)
    assert bounds.tolist() == [0, 3, 4, 11]
    assert bounds.dtype is torch.int32


def test_boundaries_are_made_once_for_all_layers():
    assert varlen.boundaries((5, 2), CPU) is varlen.boundaries((5, 2), CPU)
    assert varlen.boundaries((5, 2), CPU) is not varlen.boundaries((2, 5), CPU)


def test_boundaries_made_during_generation_serve_training_later():
    with torch.inference_mode():
        bounds = varlen.boundaries((11, 13), CPU)
    assert not bounds.is_inference()


@pytest.mark.parametrize(
    ("window", "expected"),
    [(None, (-1, 0)), (150, (-1, 0)), (149, (148, 0)), (1, (0, 0))],
)
def test_a_window_counts_the_token_itself(window, expected, faked):
    """Torch's counts the tokens before it; one that hides nothing is plain causal attention."""
    varlen.attend(*_qkv(), segments(LENGTHS), 0.3, window)
    ((args, kwargs),) = faked
    assert kwargs == {"scale": 0.3, "window_size": expected, "enable_gqa": True}
    assert args[5:] == (150, 150)


def of_2_10(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
    """As in torch 2.10."""


def of_2_11(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)
):
    """As in torch 2.11."""


@pytest.mark.parametrize(
    ("function", "expected"), [(of_2_10, False), (of_2_11, False), (fake_gpu.varlen_attn, True)]
)
def test_a_version_that_takes_less_is_not_used(function, expected):
    assert varlen.takes_all(function) is expected


def test_the_stand_in_takes_its_arguments_as_this_torch_does():
    real = pytest.importorskip("torch.nn.attention.varlen").varlen_attn
    if not varlen.takes_all(real):
        pytest.skip("this torch has another varlen_attn")
    theirs = inspect.signature(real).parameters
    for name, ours in inspect.signature(fake_gpu.varlen_attn).parameters.items():
        assert theirs[name].kind is ours.kind
        assert theirs[name].default == ours.default
    assert list(theirs)[:7] == list(inspect.signature(fake_gpu.varlen_attn).parameters)[:7]


def test_this_torch_takes_the_call(monkeypatch):
    """On tensors without data: arguments, shapes and gradients are checked, nothing computed."""
    if varlen._function() is None:
        pytest.skip("this torch has another varlen_attn")
    q, k, v = (x.to("meta", BF16).requires_grad_() for x in _qkv())
    out = varlen.attend(q, k, v, segments(LENGTHS), 0.3, 8)
    assert out.shape == (194, 4, 16)
    gradients = torch.autograd.grad(out, (q, k, v), torch.empty_like(out))
    assert [g.shape for g in gradients] == [q.shape, k.shape, v.shape]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ((CUDA, BF16, 128), varlen.attend),
        ((CUDA, BF16, 256), varlen.attend),
        ((CUDA, BF16, 512), flex.attend),
        ((CUDA, BF16, 100), flex.attend),
        ((CUDA, FP32, 128), flex.attend),
        ((CUDA, FP32, 8), ways.by_segments),
        ((CPU, BF16, 128), ways.by_segments),
        ((torch.device("mps"), BF16, 128), ways.by_segments),
    ],
)
def test_the_fastest_way_that_serves_is_chosen(facts, expected, faked, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(flex, "find_spec", lambda name: True)
    assert ways.choose(Place(*facts)) is expected


def test_what_is_missing_is_passed_over(faked, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(flex, "find_spec", lambda name: None)
    assert ways.choose(Place(CUDA, FP32, 128)) is ways.by_segments
    assert ways.choose(Place(CUDA, BF16, 128)) is varlen.attend
    monkeypatch.setattr(varlen, "_function", lambda: None)
    assert ways.choose(Place(CUDA, BF16, 128)) is ways.by_segments
    monkeypatch.setattr(flex, "find_spec", lambda name: True)
    assert ways.choose(Place(CUDA, BF16, 128)) is flex.attend
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert ways.choose(Place(CUDA, BF16, 128)) is ways.by_segments


def test_dropout_goes_to_sdpa_and_drops():
    way = ways.choose(Place(CUDA, BF16, 128), dropout=0.5)
    q, k, v = _qkv()
    torch.manual_seed(0)
    dropped = way(q, k, v, segments(LENGTHS), 0.3, None)
    assert not torch.allclose(dropped, ways.by_segments(q, k, v, segments(LENGTHS), 0.3, None))


@pytest.mark.parametrize("window", [None, 8])
def test_a_shared_prefix_goes_to_sdpa_and_is_seen(window):
    way = ways.choose(Place(CUDA, BF16, 128), shared=True)
    parts = segments((20, 7, 5, 9), (None, 0, 0, None))
    q, k, v = _qkv((20, 7, 5, 9))
    q_GTRD = q.view(len(q), 2, 2, 16).transpose(0, 1).contiguous()
    k_GTD, v_GTD = (x.transpose(0, 1).contiguous() for x in (k, v))
    expected = attend(q_GTRD, k_GTD, v_GTD, parts, 0.3, window).view(len(q), 4, 16)
    got = way(q, k, v, parts, 0.3, window)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
