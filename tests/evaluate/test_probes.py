import json
from collections import Counter
from functools import partial
from importlib.resources import files

import numpy as np
import pytest
import torch

from tunesmith.data.collate import collate
from tunesmith.data.template import Renderer
from tunesmith.errors import RecipeError
from tunesmith.evaluate import probes
from tunesmith.evaluate.probes import general
from tunesmith.evaluate.probes.base import MAX_BATCH_TOKENS, lay_out
from tunesmith.generate.generate import generate
from tunesmith.generate.options import GenerateOptions
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import IM_END, PAD, byte_tokenizer, tiny_model

PACKED = partial(collate, packed=True, pad_id=PAD)


@pytest.fixture(scope="module")
def renderer():
    return Renderer(byte_tokenizer(), frozenset({IM_END}))


def ids_of(model, stop_ids=frozenset({IM_END})):
    def generate_ids(prompts, max_new_tokens):
        options = GenerateOptions(max_new_tokens, stop_ids, PAD, keep_stop=True)
        return generate(model, prompts, options)

    return generate_ids


def logprobs_of(model):
    policy = Policy(model, "fast", torch.float32)
    return lambda batch: policy.log_probs_of(policy.features(batch))


def measured(probe, base, now):
    base_logprobs, now_logprobs = logprobs_of(base), logprobs_of(now)
    return general.measure(probe, lambda i: base_logprobs(probe.batches[i]), now_logprobs)


def by_hand(probe, base, now):
    """KL and loss of each prompt, straight from the definition, one prompt at a time in float64."""
    kl, loss = [], []
    for prompt, answer in zip(probe.prompts, probe.answers, strict=True):
        ids = torch.tensor([prompt + answer])
        with torch.no_grad():
            log_p, log_q = (
                m(input_ids=ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
                for m in (base, now)
            )
        kl.append((log_p.exp() * (log_p - log_q)).sum().item())
        loss.append(-log_q[torch.arange(len(answer)), answer].sum().item())
    return kl, loss


@pytest.fixture(scope="module")
def base():
    return tiny_model(seed=0)


@pytest.fixture(scope="module")
def probe(base, renderer):
    config = general.Config(max_new_tokens=12, prompts=10)
    free = generate(base, [[72, 105]], GenerateOptions(12, frozenset(), PAD))[0]
    # A token that the model does write, so that some answers are ended by a stop token.
    return general.prepare(ids_of(base, frozenset(free[-2:])), renderer, PACKED, config)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_measure_is_the_definition(probe, base, layout):
    now = tiny_model(seed=3)
    padded = partial(collate, packed=False, pad_id=PAD)
    used = probe if layout == "packed" else lay_out(probe.prompts, probe.answers, "f", padded)
    got = measured(used, base, now)
    kl, loss = by_hand(probe, base, now)
    np.testing.assert_allclose(got.per_prompt_kl, kl, rtol=1e-4)
    np.testing.assert_allclose(got.per_prompt_loss, loss, rtol=1e-5)
    num_tokens = sum(map(len, probe.answers))
    assert got.per_prompt_tokens.tolist() == [len(answer) for answer in probe.answers]
    assert got.kl == pytest.approx(sum(kl) / num_tokens, rel=1e-4)
    assert got.loss == pytest.approx(sum(loss) / num_tokens, rel=1e-5)
    assert got.kl > 0.01


def test_the_base_has_not_forgotten_anything(probe, base):
    got = measured(probe, base, base)
    assert got.kl == 0.0
    assert got.per_prompt_kl.tolist() == [0.0] * 10


def test_batches_are_small_and_hold_every_answer_once(base, renderer):
    config = general.Config(max_new_tokens=40, prompts=16)
    probe = general.prepare(ids_of(base, frozenset()), renderer, PACKED, config)
    assert len(probe.batches) > 1
    assert all(batch.num_trained <= MAX_BATCH_TOKENS for batch in probe.batches)
    rows = [row for batch in probe.batches for row in batch.rows]
    assert rows == [("general_prompts.jsonl", number) for number in range(1, 17)]
    targets = torch.cat([b.targets for b in probe.batches]).tolist()
    assert targets == [token for answer in probe.answers for token in answer]


def test_an_answer_longer_than_a_batch_has_one_of_its_own():
    probe = lay_out([[1], [2], [3]], [[5] * 200, [6], [7] * 3], "f", PACKED)
    assert [batch.num_trained for batch in probe.batches] == [200, 4]


def test_kept_answers_give_the_same_probe(probe):
    again = lay_out(probe.prompts, probe.answers, general.PROMPTS, PACKED)
    for one, other in zip(probe.batches, again.batches, strict=True):
        assert torch.equal(one.input_ids, other.input_ids)
        assert torch.equal(one.targets, other.targets)
        assert one.rows == other.rows


def test_the_stop_token_is_part_of_the_answer(base, renderer):
    config = general.Config(max_new_tokens=12, prompts=1)
    free = ids_of(base, frozenset())(
        [renderer.prompt(general._conversation(general.texts()[0]))], 4
    )
    stop = free[0][-1]
    probe = general.prepare(ids_of(base, frozenset({stop})), renderer, PACKED, config)
    assert probe.answers[0][-1] == stop
    assert probe.batches[0].num_trained == len(probe.answers[0]) <= 4


def test_divergence_of_distributions_known_by_hand():
    base = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]]).log()
    now = torch.tensor([[0.25, 0.75, 0.0], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]).log()
    expected = [0.5 * np.log(2) + 0.5 * np.log(2 / 3), np.log(2), 0.0]
    np.testing.assert_allclose(general.divergence(base, now).numpy(), expected, atol=1e-7)
    assert general.divergence(base, base[[1, 0, 2]])[0] == torch.inf
    assert general.divergence(base[:0], now[:0]).shape == (0,)


def test_divergence_does_not_depend_on_its_chunks(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    base, now = torch.randn(2, 70, 50, generator=generator).log_softmax(-1)
    whole = general.divergence(base, now)
    monkeypatch.setattr(general, "CHUNK_POSITIONS", 3)
    assert torch.equal(general.divergence(base, now), whole)
    assert (whole > 0).all()


def test_a_broken_model_shows(probe, base):
    broken = lambda batch: torch.full((batch.num_trained, 320), torch.nan)  # noqa: E731
    base_logprobs = logprobs_of(base)
    got = general.measure(probe, lambda i: base_logprobs(probe.batches[i]), broken)
    assert np.isnan(got.kl)
    assert np.isnan(got.loss)


def test_the_prompts_are_many_different_and_mixed():
    text = files(probes).joinpath(general.PROMPTS).read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [set(line) for line in lines] == [{"prompt", "kind"}] * 40
    assert len({line["prompt"] for line in lines}) == 40
    assert all(len(line["prompt"]) <= 200 for line in lines)
    kinds = [line["kind"] for line in lines]
    assert set(Counter(kinds).values()) == {5}
    assert len(set(kinds[:8])) == 8


def test_probes_are_found_by_name():
    assert probes.names() == ["general"]
    assert probes.load("general") is general
    with pytest.raises(
        RecipeError, match=r"evaluate.probes: got 'genral'(.|\n)*did you mean general"
    ):
        probes.load("genral")
