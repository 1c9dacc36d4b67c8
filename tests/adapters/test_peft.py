"""Any kind of PEFT by its own keys, which are checked."""

import pytest
import torch
from peft import PeftModel
from peft.tuners import vera as peft_vera
from peft.tuners.lycoris_utils import LycorisLayer

from tests.adapters.conftest import attach, logits, move, small
from tunesmith.adapters import loha, lokr, peft, vera
from tunesmith.adapters.parts.model_type import in_type
from tunesmith.config.check import check
from tunesmith.errors import RecipeError


def _read(**keys):
    return check(peft.Config, {"name": "peft", **keys}, "recipe", "adapter")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"kind": "fourier"}, "did you mean fourierft"),
        ({"kind": "adalora"}, "adalora needs to be told of every step"),
        ({"kind": "prompt_tuning"}, "prompt_tuning is adapter.name: prompt"),
        ({"kind": "hra", "rr": 4}, "not 'rr'; did you mean r"),
        ({"kind": "hra", "targt_modules": ["q_proj"]}, "did you mean target_modules"),
        ({"kind": "hra", "task_type": "CAUSAL_LM"}, "not 'task_type'"),
    ],
    ids=str,
)
def test_kinds_and_keys_are_checked(keys, text):
    with pytest.raises(RecipeError, match=text):
        _read(**keys)


@pytest.mark.parametrize(
    "keys",
    [{"kind": "fourierft", "n_frequency": 50}, {"kind": "randlora", "r": 4}, {"kind": "c3a"}],
    ids=str,
)
def test_its_keys_reach_peft_and_peft_reads_the_result(keys, tmp_path):
    keys |= {"block_size": 32} if keys["kind"] == "c3a" else {}
    attached = move(attach(_read(**keys, target_modules=["q_proj", "v_proj"])))
    assert attached.targeted == {"q_proj": 1, "v_proj": 1}
    config = attached.writer.peft_config["default"]
    assert all(getattr(config, key) == v for key, v in keys.items() if key != "kind")
    peft.write(attached, tmp_path, "some/base")
    loaded = PeftModel.from_pretrained(small(), tmp_path)
    assert torch.equal(logits(loaded), logits(attached.model))


def test_what_peft_refuses_is_an_error_of_the_recipe():
    with pytest.raises(RecipeError, match="adapter: got .*Target modules"):
        attach(_read(kind="hra", target_modules=["c_attn"]))


@pytest.mark.parametrize("adapter", [loha, lokr])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_updates_are_trained_in_the_type_of_the_model(adapter, dtype):
    """As PEFT does it, but for the rounding of that type; measured they are PEFT's own."""
    attached = move(attach(adapter.Config(), small().to(dtype)))
    layers = [m for m in attached.model.modules() if isinstance(m, LycorisLayer)]
    assert layers
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    for layer in layers:
        x = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(0)).to(dtype)
        theirs = type(layer)._get_delta_activations(layer, "default", x).detach()
        assert torch.equal(layer.eval()._get_delta_activations("default", x), theirs)
        ours = layer.train()._get_delta_activations("default", x)
        assert ours.dtype == dtype
        most = tolerance * float(theirs.abs().max())
        torch.testing.assert_close(ours.float(), theirs, rtol=tolerance, atol=most)
        ours.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in attached.trained.values())
    assert {p.grad.dtype for p in attached.trained.values()} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_vera_is_trained_in_the_type_of_the_model(dtype):
    """As PEFT does it, gradients too, but for the rounding of that type; measured it is PEFT's."""
    attached = move(attach(vera.Config(rank=8), small().to(dtype)))
    layers = [m for m in attached.model.modules() if isinstance(m, peft_vera.Linear)]
    assert len({(layer.in_features, layer.out_features) for layer in layers}) > 2
    tolerance = 1e-6 if dtype == torch.float32 else 3e-2
    for layer in layers:
        x = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(0)).to(dtype)
        x.requires_grad_()
        numbers = [x, layer.vera_lambda_b["default"], layer.vera_lambda_d["default"]]
        theirs = peft_vera.Linear.forward(layer, x)
        assert torch.equal(layer.eval()(x), theirs)
        ours = layer.train()(x)
        assert ours.dtype == dtype
        wanted = torch.autograd.grad(theirs.float().square().sum(), numbers)
        found = torch.autograd.grad(ours.float().square().sum(), numbers)
        for got, want in zip((ours, *found), (theirs, *wanted), strict=True):
            most = tolerance * float(want.detach().abs().max())
            torch.testing.assert_close(got, want, rtol=tolerance, atol=most)
    assert {p.dtype for p in attached.trained.values()} == {torch.float32}


def test_the_matrices_of_vera_are_rounded_once_for_all_layers():
    attached = attach(vera.Config(rank=8), small().bfloat16())
    pairs = {id(m.vera_A["default"]) for m in attached.model.modules() if hasattr(m, "vera_A")}
    assert len(pairs) == 1
    master = attached.writer.base_model.vera_A["default"]
    assert master.dtype == torch.float32
    assert in_type(master, torch.float32) is master
    assert in_type(master, torch.bfloat16) is in_type(master, torch.bfloat16)
