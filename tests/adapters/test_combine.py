"""Several adapters in one: sums and arcs by hand, PEFT's kinds against PEFT, stacks and scales."""

import json
import math

import pytest
import torch
from peft import PeftModel

from tests.adapters.conftest import attach, logits, move, small
from tunesmith.adapters import ia3, lora
from tunesmith.adapters.parts import files
from tunesmith.adapters.parts.combine import KINDS, Mixture, combine, cosine, require_sound
from tunesmith.adapters.parts.scaled import write_scaled
from tunesmith.adapters.parts.update import read
from tunesmith.errors import CommandError, RecipeError


def _adapter(folder, scale=0.05, **keys):
    folder.mkdir()
    config = lora.Config(**{"rank": 4, "targets": ["q_proj", "down_proj"]} | keys)
    lora.write(move(attach(config, seed=len(folder.name)), scale), folder, "some/base")
    return folder


@pytest.fixture
def pair(tmp_path):
    return [_adapter(tmp_path / "a"), _adapter(tmp_path / "bb", -0.03, alpha=3, rank=4)]


def _deltas(folder):
    """By layer, the update as one matrix."""
    update = read(folder)
    return {n: update.scale(n) * b @ a for n, (a, b) in update.layers().items()}


def _mixed(folders, weights, kind, folder):
    mixture = Mixture(folders, weights, kind, 0.5, 0)
    require_sound(mixture)
    model, saved = combine(small(), mixture)
    folder.mkdir()
    files.keep(saved, folder)
    return model, folder


def test_cat_is_the_weighted_sum(pair, tmp_path):
    _, folder = _mixed(pair, [0.7, 0.3], "cat", tmp_path / "sum")
    first, second, got = (_deltas(each) for each in (*pair, folder))
    for name, delta in got.items():
        want = 0.7 * first[name] + 0.3 * second[name]
        torch.testing.assert_close(delta, want, rtol=0, atol=1e-7)


def test_slerp_goes_along_the_arc(pair, tmp_path):
    _, folder = _mixed(pair, [0.75, 0.25], "slerp", tmp_path / "arc")
    first, second, got = (_deltas(each) for each in (*pair, folder))
    for name, delta in got.items():
        x, y = first[name].double().flatten(), second[name].double().flatten()
        angle = math.acos((x @ y / (x.norm() * y.norm())).item())
        want = (math.sin(0.75 * angle) * x + math.sin(0.25 * angle) * y) / math.sin(angle)
        torch.testing.assert_close(delta.double().flatten(), want, rtol=0, atol=1e-6)


def test_the_angle_of_updates_by_hand():
    # B A is (1, 0; 0, 0) and (1, 1; 0, 0): 45 degrees.
    one = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0], [0.0]])
    other = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0], [0.0]])
    assert cosine(one, other) == pytest.approx(math.sqrt(0.5))
    assert cosine(one, one) == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_loaded_by_peft_with_equal_logits(pair, kind, tmp_path):
    model, folder = _mixed(pair, [0.7, 0.3], kind, tmp_path / "mixed")
    again = PeftModel.from_pretrained(small(), folder)
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=2e-6)
    assert not torch.allclose(logits(again), logits(small()), atol=1e-4)


def test_kinds_of_peft_are_its_own(pair, tmp_path):
    _, folder = _mixed(pair, [0.7, 0.3], "ties", tmp_path / "ties")
    theirs = PeftModel.from_pretrained(small(), pair[0], adapter_name="one")
    theirs.load_adapter(pair[1], "two")
    theirs.add_weighted_adapter(["one", "two"], [0.7, 0.3], "m", "ties", density=0.5)
    theirs.set_adapter("m")
    again = PeftModel.from_pretrained(small(), folder)
    assert torch.equal(logits(again), logits(theirs))


@pytest.mark.parametrize(
    ("weights", "kind", "density", "text"),
    [
        ([1.0], "cat", 0.5, "--weights: got 1 of them; expected 2, one an adapter"),
        ([1.0, 1.0], "tie", 0.5, "(?s)--kind: got 'tie'; .*did you mean ties"),
        ([-1.0, 1.0], "slerp", 0.5, "--weights: .*expected none below 0"),
        ([1.0, 1.0], "ties", 0.0, "--density: got 0.0"),
    ],
)
def test_mixtures_that_make_no_sense_are_refused(pair, weights, kind, density, text):
    with pytest.raises((CommandError, RecipeError), match=text):
        require_sound(Mixture(pair, weights, kind, density, 0))


def test_only_plain_lora_is_mixed(pair, tmp_path):
    (tmp_path / "other").mkdir()
    ia3.write(attach(ia3.Config()), tmp_path / "other", "some/base")
    with pytest.raises(CommandError, match="got an adapter of kind ia3; expected LoRA"):
        require_sound(Mixture([pair[0], tmp_path / "other"], [1, 1], "cat", 0.5, 0))
    dora = _adapter(tmp_path / "dora", dora=True)
    with pytest.raises(CommandError, match=r"lora_magnitude_vector.*; expected A and B alone"):
        require_sound(Mixture([pair[0], dora], [1, 1], "cat", 0.5, 0))


def test_scaling_multiplies_the_update_exactly(tmp_path):
    source = _adapter(tmp_path / "a", rank_pattern={"q_proj": 2}, alpha_pattern={"q_proj": 3.0})
    write_scaled(source, 0.7, tmp_path / "less")
    before, after = _deltas(source), _deltas(tmp_path / "less")
    assert all(torch.allclose(after[n], 0.7 * before[n], rtol=1e-5, atol=1e-9) for n in before)
    merged = PeftModel.from_pretrained(small(), tmp_path / "less").merge_and_unload()
    name = "model.layers.0.self_attn.q_proj"
    want = small().get_submodule(name).weight + 0.7 * before[name]
    torch.testing.assert_close(merged.get_submodule(name).weight, want, rtol=0, atol=1e-7)
    write_scaled(source, 0.0, tmp_path / "none")
    assert torch.equal(
        logits(PeftModel.from_pretrained(small(), tmp_path / "none")), logits(small())
    )


def test_what_is_no_multiple_of_a_number_is_not_scaled(tmp_path):
    dora = _adapter(tmp_path / "dora", dora=True)
    with pytest.raises(CommandError, match="--scale: got an adapter of kind lora with DoRA"):
        write_scaled(dora, 0.5, tmp_path / "half")


def test_a_second_adapter_lies_on_top_of_a_frozen_first(pair, tmp_path):
    config = lora.Config(rank=3, targets=["q_proj", "v_proj"], on_top_of=str(pair[0]))
    attached = attach(config)
    first = logits(PeftModel.from_pretrained(small(), pair[0]))
    torch.testing.assert_close(logits(attached.model), first, rtol=0, atol=1e-6)
    assert attached.continued
    assert all(".default." in name for name in attached.trained)
    # q_proj and v_proj of one layer: A (3, 64) each, B (64, 3) and (32, 3).
    assert attached.num_trained == 3 * 64 * 2 + 64 * 3 + 32 * 3
    move(attached)
    (tmp_path / "both").mkdir()
    lora.write(attached, tmp_path / "both", "some/base")
    written = json.loads((tmp_path / "both" / "adapter_config.json").read_text())
    assert {*written["rank_pattern"].values(), written["r"]} == {7, 4, 3}
    both = PeftModel.from_pretrained(small(), tmp_path / "both")
    torch.testing.assert_close(logits(both), logits(attached.model), rtol=0, atol=1e-6)
    with attached.disabled():
        assert torch.equal(logits(attached.model), logits(small()))


def test_going_on_names_what_differs(pair):
    with pytest.raises(RecipeError, match="r: 4 there, 8 here"):
        attach(lora.Config(rank=8, targets=["q_proj", "down_proj"], **{"from": str(pair[0])}))
    with pytest.raises(RecipeError, match="target_modules: .*q_proj.* there, .*k_proj.* here"):
        attach(lora.Config(rank=4, targets=["k_proj"], **{"from": str(pair[0])}))
