"""Virtual tokens: how they begin, what is refused, and that PEFT loads what is written."""

import json

import pytest
import torch
from peft import PeftModel

from tests.adapters.conftest import logits, move, small
from tunesmith.adapters import base, bottleneck, lora, prefix, prompt, ptuning
from tunesmith.adapters.base import Material
from tunesmith.config.check import check
from tunesmith.errors import ModelError, RecipeError
from tunesmith.models import soft
from tunesmith.models.quantize import quantize
from tunesmith.models.soft_wrapper import disabled, installed
from tunesmith.testing.architectures import build
from tunesmith.testing.bases import random_base
from tunesmith.testing.tiny import byte_tokenizer, tiny_model

MATERIAL = Material(ids=lambda text: byte_tokenizer()(text, add_special_tokens=False).input_ids)
KINDS = {
    "prompt": prompt.Config(virtual_tokens=4),
    "prefix": prefix.Config(virtual_tokens=4),
    "prefix by an MLP": prefix.Config(virtual_tokens=4, hidden=8),
    "ptuning": ptuning.Config(virtual_tokens=4),
    "ptuning by an LSTM": ptuning.Config(virtual_tokens=4, encoder="lstm", hidden=8, dropout=0.3),
}


@pytest.fixture(params=KINDS)
def config(request):
    return KINDS[request.param]


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_peft_loads_what_is_written(config, name, tmp_path):
    adapter = base.load(config.name)
    attached = base.attach(config, random_base(name), 1)
    with torch.no_grad():
        for parameter in attached.trained.values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    attached.model.train()  # An encoder that drops units must not be saved while it does.
    adapter.write(attached, tmp_path, "some/base")
    kept = adapter.saved(attached)
    assert json.loads((tmp_path / "adapter_config.json").read_text()) == kept.config
    assert list(kept.tensors) == ["prompt_embeddings"]
    attached.model.eval()
    loaded = PeftModel.from_pretrained(random_base(name), tmp_path).eval()
    ids = torch.arange(1, 12)[None]
    expected = attached.model(input_ids=ids).logits
    torch.testing.assert_close(loaded(input_ids=ids).logits[:, -11:], expected)
    # The loaded one, with the prompt in its base, answers the same again.
    inside = installed(loaded)
    assert inside is installed(loaded)
    torch.testing.assert_close(inside(input_ids=ids).logits, expected)
    with disabled(loaded):
        assert torch.equal(inside(input_ids=ids).logits, random_base(name)(input_ids=ids).logits)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_over_a_quantized_base_they_train_and_come_back(config, kind, tmp_path):
    if kind == "nf4":
        pytest.importorskip("bitsandbytes", reason="nf4 needs the extra `quant`")
    adapter, ids = base.load(config.name), torch.arange(1, 12)[None]

    def quantized():
        model = random_base("llama").requires_grad_(False)
        quantize(model, kind)
        return model

    attached = base.attach(config, quantized(), 1)
    attached.model(input_ids=ids).logits.float().square().mean().backward()
    gradients = [parameter.grad for parameter in attached.trained.values()]
    assert all(grad is not None and torch.isfinite(grad).all() for grad in gradients)
    assert any(grad.any() for grad in gradients)
    attached.model.eval()
    adapter.write(attached, tmp_path, "some/base")
    loaded = installed(PeftModel.from_pretrained(quantized(), tmp_path).eval())
    expected = attached.model(input_ids=ids).logits
    torch.testing.assert_close(loaded(input_ids=ids).logits, expected)


@pytest.mark.parametrize("adapter", [prompt, prefix])
@pytest.mark.parametrize("text", ["ab", "abcdef"])
def test_a_text_is_read_as_if_it_stood_there(adapter, text):
    """Repeated or cut to four tokens; keys and values of a text are what reading it makes."""
    model = tiny_model(seed=0)
    ids = torch.tensor([[*(text * 2).encode()[:4], *b"then this"]])
    expected = model(input_ids=ids).logits[:, 4:]
    config = adapter.Config(virtual_tokens=4, init_text=text)
    base.attach(config, model, 0, MATERIAL)
    torch.testing.assert_close(model(input_ids=ids[:, 4:]).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("adapter", [prompt, prefix])
def test_without_a_text_they_begin_as_tokens_drawn_by_the_seed(adapter):
    config, model = adapter.Config(virtual_tokens=3), tiny_model(seed=0)
    attached = adapter.attach(model, config, seed=7)
    torch.manual_seed(7)
    drawn = torch.randint(0, 320, (3,))
    rest = torch.tensor([list(b"some text")])
    whole = tiny_model(seed=0)(input_ids=torch.cat([drawn[None], rest], 1)).logits[:, 3:]
    torch.testing.assert_close(attached.model(input_ids=rest).logits, whole, rtol=1e-5, atol=1e-5)


def test_how_many_numbers_are_trained():
    """Of the tiny model: 64 wide, 2 layers, 2 key heads by 16."""
    sizes = {
        kind: base.attach(config, tiny_model(seed=0), 0).num_trained
        for kind, config in KINDS.items()
    }
    assert sizes["prompt"] == 4 * 64
    assert sizes["prefix"] == 4 * 2 * 2 * 2 * 16
    assert sizes["prefix by an MLP"] == 4 * 32 + (32 * 8 + 8) + (8 * 128 + 128)
    assert sizes["ptuning"] == 4 * 64 + 3 * (64 * 64 + 64)


def test_a_text_without_tokens_is_refused():
    config = prompt.Config(init_text="x")
    with pytest.raises(RecipeError, match=r"adapter\.init_text: got 'x', which has no tokens"):
        base.attach(config, tiny_model(), 0, Material(ids=lambda text: []))


@pytest.mark.parametrize(
    ("adapter", "keys", "says"),
    [
        (prefix, {"hidden": 8, "init_text": "a"}, "init_text or hidden, not both"),
        (ptuning, {"dropout": 0.1}, "those of encoder: lstm"),
        (ptuning, {"layers": 1}, "those of encoder: lstm"),
        (ptuning, {"encoder": "lstm", "layers": 1, "dropout": 0.1}, "dropout lies between layers"),
        (prompt, {"from": "x", "init_text": "a"}, "init_text or from, not both"),
        (prefix, {"from": "x", "init_text": "a"}, "init_text or from, not both"),
        (prefix, {"from": "x", "hidden": 8}, "what its MLP made, not the MLP"),
        (ptuning, {"from": "x"}, r"go on from that with adapter\.name: prompt"),
        (prompt, {"virtual_tokens": 0}, "greater than or equal to 1"),
        (prompt, {"init_text": ""}, "at least 1 character"),
    ],
)
def test_keys_that_do_not_go_together(adapter, keys, says):
    with pytest.raises(RecipeError, match=says):
        check(adapter.Config, keys, "recipe.yaml", prefix="adapter")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("qwen3-next", "layers of the kind linear_attention"),
        ("deepseek-v3", "not all of the shape"),
    ],
)
def test_a_prefix_needs_keys_and_values_in_every_layer(name, says):
    with pytest.raises(ModelError, match=says):
        prefix.attach(build(name), prefix.Config(), 0)


def test_layers_of_the_lstm_and_its_dropout_reach_it():
    config = ptuning.Config(virtual_tokens=4, encoder="lstm", hidden=8, layers=3, dropout=0.25)
    attached = ptuning.attach(tiny_model(), config, 0)
    lstm = soft.of(attached.model).encoder.lstm_head
    assert (lstm.num_layers, lstm.dropout, lstm.hidden_size) == (3, 0.25, 8)


def _earlier(config, folder):
    """One that was trained, as it was and in a folder."""
    attached = move(base.attach(config, tiny_model(seed=0), 1), 0.3)
    attached.model.eval()  # An encoder would drop units otherwise.
    folder.mkdir(exist_ok=True)
    base.load(config.name).write(attached, folder, "some/base")
    return attached


def _going_on(adapter, folder, virtual_tokens=4):
    keys = {"virtual_tokens": virtual_tokens, "from": str(folder)}
    return base.attach(adapter.Config.model_validate(keys), tiny_model(seed=0), 2)


def test_one_goes_on_from_what_an_earlier_one_had_made(config, tmp_path):
    """Of P-tuning that is a prompt; of an MLP that made a prefix, a prefix without one."""
    attached = _earlier(config, tmp_path)
    again = _going_on(prefix if config.name == "prefix" else prompt, tmp_path)
    assert again.continued
    # Torch's LSTM has other last bits where it needs no gradient.
    torch.testing.assert_close(logits(again.model), logits(attached.model), rtol=1e-5, atol=1e-6)
    with_peft = PeftModel.from_pretrained(tiny_model(seed=0), tmp_path).eval()
    assert torch.equal(logits(again.model), logits(with_peft)[:, -12:])
    (numbers,) = again.trained.values()
    assert numbers.dtype is torch.float32
    assert numbers.requires_grad
    with again.disabled():
        assert torch.equal(logits(again.model), logits(tiny_model(seed=0)))


@pytest.mark.parametrize(
    ("adapter", "others", "says"),
    [
        (prompt, prompt.Config(virtual_tokens=3), r"tokens: got 4, from .* with 3; expected 3"),
        (prefix, prompt.Config(virtual_tokens=4), "from: got .*kind prompt_tuning.*kind prefix_tu"),
        (prompt, prefix.Config(virtual_tokens=4), "kind prefix_tuning.*kind prompt_tuning or p_tu"),
        (prompt, lora.Config(), "an adapter of kind lora"),
        (prompt, bottleneck.Config(), "an adapter of kind bottleneck"),
    ],
)
def test_one_that_is_of_another_kind_or_number_is_refused(adapter, others, says, tmp_path):
    _earlier(others, tmp_path)
    with pytest.raises(RecipeError, match=says):
        _going_on(adapter, tmp_path)


def test_one_for_another_model_is_refused(tmp_path):
    _earlier(KINDS["prefix"], tmp_path)
    config = prefix.Config.model_validate({"virtual_tokens": 4, "from": str(tmp_path)})
    with pytest.raises(RecipeError, match="num_layers: 2 there, 1 here"):
        prefix.attach(small(), config, 0)
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(written | {"num_layers": 1}))
    with pytest.raises(RecipeError, match=r"prompt_embeddings: \[4, 128\] there, \[4, 64\] here"):
        prefix.attach(small(), config, 0)
