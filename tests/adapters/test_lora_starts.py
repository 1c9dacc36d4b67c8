"""Each start of LoRA, its scale, DoRA and LoRA+: against PEFT's own, and saved over the base."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from tests.adapters.conftest import attach, logits, move, rows, small
from tunesmith.adapters import lora
from tunesmith.errors import RecipeError
from tunesmith.models.quantize import quantize

CASES = [
    {"init": "gaussian"},
    {"init": "pissa"},
    {"init": "olora"},
    {"init": "eva"},
    {"init": "corda"},
    {"dora": True},
    {"scaling": "rslora"},
    {"init": "pissa", "scaling": "rslora", "dora": True},
    {"init": "pissa", "rank_pattern": {"down_proj": 2}, "alpha_pattern": {"q_proj": 3.0}},
    {"targets": ["embed_tokens", "lm_head", "q_proj"]},
]


@pytest.fixture(params=CASES, ids=str)
def config(request):
    return lora.Config(rank=4, **request.param)


# PEFT advises against adapters on shared embeddings; what it says can happen is tested here.
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning")
def test_it_starts_as_the_base_and_is_saved_over_the_base_as_published(config, tmp_path):
    before = logits(small())
    attached = attach(config)
    torch.testing.assert_close(logits(attached.model), before, rtol=0, atol=1e-6)
    move(attached)
    after = logits(attached.model)
    assert not torch.allclose(after, before, atol=1e-2)
    lora.write(attached, tmp_path, "some/base")
    loaded = PeftModel.from_pretrained(small(), tmp_path)
    torch.testing.assert_close(logits(loaded), after, rtol=0, atol=2e-6)
    with attached.disabled():
        torch.testing.assert_close(logits(attached.model), before, rtol=0, atol=1e-6)
    assert torch.equal(logits(attached.model), after)


# PEFT loads the start beside the adapter to convert it, and then warns of that.
@pytest.mark.filterwarnings("ignore:.*changes the base weights:UserWarning")
@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_what_is_saved_is_what_peft_makes_of_it(init, tmp_path):
    attached = attach(lora.Config(rank=4, init=init, targets=["q_proj"]), seed=1)
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, init_lora_weights=init, target_modules=["q_proj"])
    theirs = get_peft_model(small(), config)
    theirs.peft_config["default"].init_lora_weights = True
    theirs.save_pretrained(tmp_path / "start", save_embedding_layers=False)
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            ours = attached.trained[name.removeprefix("base_model.model.")]
            assert torch.equal(ours, parameter)
            with torch.no_grad():
                parameter.add_(0.1)
                ours.add_(0.1)
    theirs.peft_config["default"].init_lora_weights = init
    theirs.save_pretrained(
        tmp_path / "theirs",
        save_embedding_layers=False,
        path_initial_model_for_weight_conversion=str(tmp_path / "start"),
    )
    (tmp_path / "ours").mkdir()
    lora.write(attached, tmp_path / "ours", "some/base")
    ours = load_file(tmp_path / "ours" / "adapter_model.safetensors")
    want = load_file(tmp_path / "theirs" / "adapter_model.safetensors")
    assert ours.keys() == want.keys()
    assert all(torch.equal(ours[name], want[name]) for name in want)


def test_pissa_takes_the_largest_singular_parts_out_of_the_base():
    base = small().model.layers[0].self_attn.q_proj.weight.detach()
    u, s, vh = torch.linalg.svd(base)
    model = attach(lora.Config(rank=4, init="pissa", targets=["q_proj"])).model
    rest = model.model.layers[0].self_attn.q_proj.base_layer.weight
    torch.testing.assert_close(rest, base - u[:, :4] * s[:4] @ vh[:4], rtol=1e-4, atol=1e-6)


def test_corda_has_the_parts_that_peft_finds(monkeypatch):
    pytest.importorskip("attr", reason="PEFT's own way to CorDA needs attrs")
    from peft.tuners.lora.config import CordaConfig
    from peft.tuners.lora.corda import preprocess_corda

    model, targets = small(), ["q_proj", "down_proj"]
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        init_lora_weights="corda",
        target_modules=targets,
        corda_config=CordaConfig(corda_method="ipm"),
    )
    preprocess_corda(model, config, run_model=lambda: [model(input_ids=r[None]) for r in rows()])
    theirs = get_peft_model(model, config)
    attached = attach(lora.Config(rank=4, init="corda", targets=targets))
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(attached.trained[name.removeprefix("base_model.model.")], parameter)


def test_corda_splits_a_weight_by_the_covariance_of_its_inputs():
    """With r = all ranks, B A is W: U S V^T C^-1 of W C, whatever C is."""
    base = small().model.layers[0].self_attn.k_proj.weight.detach()
    config = lora.Config(rank=32, alpha=32, init="corda", targets=["k_proj"])
    layer = attach(config).model.model.layers[0].self_attn.k_proj
    update = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(update, base, rtol=1e-3, atol=1e-4)


def test_eva_finds_the_directions_of_the_inputs():
    layer = attach(lora.Config(rank=4, init="eva", targets=["q_proj"])).model.model.layers[0]
    a_rI = layer.self_attn.q_proj.lora_A["default"].weight.detach()
    torch.testing.assert_close(a_rI @ a_rI.t(), torch.eye(len(a_rI)), rtol=0, atol=1e-5)
    seen = []
    plain = small()
    plain.model.layers[0].self_attn.q_proj.register_forward_hook(
        lambda module, args, out: seen.append(args[0][0].detach())
    )
    for ids in rows():
        plain(input_ids=ids[None])
    x_TI = torch.cat(seen)
    random = torch.linalg.qr(torch.randn(64, 4))[0].t()
    assert (x_TI @ a_rI.t()).norm() > 1.5 * (x_TI @ random.t()).norm()


@pytest.mark.parametrize("kind", ["int8"])
def test_loftq_puts_back_what_rounding_took(kind):
    """B A is the best rank-r part of W - Q: with all ranks, Q + s B A is W."""
    published = small().model.layers[0].self_attn.k_proj.weight.detach()
    model = small().requires_grad_(False)
    quantize(model, kind)
    config = lora.Config(rank=32, init="loftq", targets=["k_proj"])
    attached = attach(config, model, published=lambda name: small().get_submodule(name).weight)
    layer = attached.model.model.layers[0].self_attn.k_proj
    update = layer.get_delta_weight("default")
    rounded = layer.base_layer.weight_in(torch.float32)
    assert (published - rounded).abs().max() > 1e-5
    torch.testing.assert_close(rounded + update, published, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"init": "loftq"}, "adapter.init: got loftq over a base that is not quantised"),
        ({"rank_pattern": {"c_attn": 2}}, "adapter.rank_pattern: got 'c_attn', which no target"),
        (
            {"init": "pissa", "targets": ["lm_head"]},
            "adapter.targets: got lm_head with init: pissa",
        ),
        ({"added_tokens": ["<a>"]}, "adapter.added_tokens: got a base without these tokens"),
    ],
)
def test_what_cannot_be_is_refused(changes, text):
    with pytest.raises(RecipeError, match=text):
        attach(lora.Config(**changes))


def test_starts_from_rows_ask_for_rows():
    with pytest.raises(RecipeError, match="adapter.init: got eva without rows to look at"):
        attach(lora.Config(init="eva"), rows=list)


def test_keys_that_exclude_each_other_are_refused():
    with pytest.raises(ValueError, match="init: default beside from"):
        lora.Config(init="pissa", **{"from": "x"})
    with pytest.raises(ValueError, match="on_top_of without dora"):
        lora.Config(dora=True, on_top_of="x")


def test_ranks_and_alphas_by_pattern():
    config = lora.Config(
        rank=4, rank_pattern={"q_proj": 2, "mlp.*_proj": 8}, alpha_pattern={"k_proj": 1.0}
    )
    layer = attach(config).model.model.layers[0]
    ranks = {n: getattr(layer.self_attn, n).r["default"] for n in ("q_proj", "k_proj", "v_proj")}
    assert ranks == {"q_proj": 2, "k_proj": 4, "v_proj": 4}
    assert layer.mlp.down_proj.r["default"] == 8
    # Left out, alpha is twice the rank of each; k_proj has its own.
    assert layer.self_attn.q_proj.scaling["default"] == 2.0
    assert layer.mlp.down_proj.scaling["default"] == 2.0
    assert layer.self_attn.k_proj.scaling["default"] == 0.25


def test_rslora_divides_by_the_root_of_the_rank():
    config = lora.Config(rank=16, alpha=8, scaling="rslora", targets=["q_proj"])
    layer = attach(config).model.model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == 8 / 4


def test_lora_plus_lets_b_learn_faster():
    attached = attach(lora.Config(plus_ratio=16, targets=["q_proj", "embed_tokens"]))
    faster = {name for name in attached.trained if "_B." in name}
    assert len(faster) == 2
    assert attached.rates == dict.fromkeys(faster, 16.0)
    assert attach(lora.Config()).rates == {}


@pytest.mark.parametrize(
    ("keys", "scale"),
    [
        ({"rank": 16}, 2.0),
        ({"rank": 16, "alpha": 4}, 0.25),
        ({"rank": 16, "scaling": "rslora"}, 2.0),
        ({"rank": 16, "scaling": "rslora", "alpha": 4}, 1.0),
    ],
    ids=str,
)
def test_the_usual_rate_goes_against_the_scale(keys, scale):
    config = lora.Config(**keys)
    assert config.scale == scale
    assert lora.multiple(config) == 10 * 32 / 16 / scale
