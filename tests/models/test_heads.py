"""Heads over a decoder: what transformers makes of the same tokens."""

import json

import numpy as np
import pytest
import torch

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.errors import ModelError
from tunesmith.models import fast, pooling
from tunesmith.models.heads import Head, gives, pooling_of, put, task_of, widen, write_beside
from tunesmith.models.policy import Policy
from tunesmith.models.quantize import quantize
from tunesmith.testing.tiny import PAD, byte_tokenizer, tiny_model

HEAD = Head("scores", ("a", "b", "c"))


def _examples(*lengths):
    rng = np.random.default_rng(0)
    return [
        Example(rng.integers(0, 256, n).astype(np.int32), np.zeros(n, dtype=bool), "f", i)
        for i, n in enumerate(lengths, 1)
    ]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_scores_are_those_of_transformers(packed, kernels):
    language = tiny_model()
    model = put(language, HEAD, byte_tokenizer(), seed=0)
    if kernels == "fast":
        fast.lay_over(model)
    policy = Policy(model, kernels, torch.float32, language)
    examples = _examples(1, 7, 4)
    with torch.no_grad():
        ours = policy.scores(collate(examples, packed, PAD))
        alone = [model(input_ids=torch.tensor(e.input_ids[None]).long()).logits for e in examples]
        padded = collate(examples, False, PAD)
        beside = model(input_ids=padded.input_ids, attention_mask=padded.attention_mask).logits
    torch.testing.assert_close(ours, torch.cat(alone), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours, beside, rtol=1e-5, atol=1e-5)


def test_the_decoder_is_shared_with_the_language_model():
    language = tiny_model()
    model = put(language, HEAD, byte_tokenizer(), seed=0)
    assert model.model is language.model
    assert model.config is language.config
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert model.config.pad_token_id == PAD


def test_the_head_starts_as_a_function_of_the_seed():
    weights = [put(tiny_model(), HEAD, byte_tokenizer(), s).score.weight for s in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].std().item() == pytest.approx(0.02, rel=0.2)


def test_scores_are_fp32_over_a_bf16_decoder():
    language = tiny_model().bfloat16()
    model = put(language, HEAD, byte_tokenizer(), seed=0)
    batch = collate(_examples(5, 3), True, PAD)
    policy = Policy(model, "fast", torch.bfloat16, language)
    with torch.no_grad():
        states, scores = policy.sequence_states(batch), policy.scores(batch)
    assert (states.dtype, scores.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(scores, states.float() @ model.score.weight.t(), rtol=0, atol=0)


def test_quantisation_leaves_the_head_alone():
    model = put(tiny_model(), HEAD, byte_tokenizer(), seed=0)
    before = model.score.weight.clone()
    quantize(model, "int8")
    assert torch.equal(model.score.weight, before)


def test_a_head_that_transformers_loaded_is_widened():
    model = put(tiny_model(), HEAD, byte_tokenizer(), seed=0)
    model.score = torch.nn.Linear(64, 3, bias=False).bfloat16()
    assert widen(model).score.weight.dtype is torch.float32


def test_a_model_says_what_it_gives():
    language = tiny_model()
    assert (gives(language), task_of(language)) == ("logits", "CAUSAL_LM")
    states = put(tiny_model(), Head("states"), byte_tokenizer(), seed=0)
    assert (gives(states), task_of(states)) == ("states", "FEATURE_EXTRACTION")
    scores = put(language, HEAD, byte_tokenizer(), seed=0)
    assert (gives(scores), task_of(scores)) == ("scores", "SEQ_CLS")


def test_an_architecture_without_a_classifier_is_refused():
    language = tiny_model()
    language.config = type("Strange", (type(language.config),), {})(hidden_size=64)
    with pytest.raises(ModelError, match="Strange; expected an architecture"):
        put(language, HEAD, byte_tokenizer(), seed=0)


def test_the_mean_is_over_the_tokens_of_each_sequence_and_a_shared_prefix_counts():
    pair = Example(np.array([5, 6, 7, 5, 6, 8], dtype=np.int32), np.zeros(6, bool), "f", 1, (3, 3))
    batch = collate([pair], True, PAD)
    assert batch.prefixes == (None, 0, 0)
    assert pooling.last_places(batch) == [2, 3]
    language = tiny_model()
    model = put(language, Head("states", pooling="mean"), byte_tokenizer(), seed=0)
    policy = Policy(model, "fast", torch.float32, language)
    with torch.no_grad():
        found = policy.sequence_states(batch, "mean")
        each = [model(input_ids=torch.tensor([[5, 6, last]])) for last in (7, 8)]
    expected = torch.cat([out.last_hidden_state.mean(1) for out in each])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", ["last", "mean"])
def test_pooling_is_written_as_sentence_transformers_reads_it(tmp_path, how):
    head = Head("states", pooling=how)
    write_beside(head, put(tiny_model(), head, byte_tokenizer(), seed=0), tmp_path)
    assert pooling_of(tmp_path) == how
    kinds = [
        m["type"].rpartition(".")[2] for m in json.loads((tmp_path / "modules.json").read_text())
    ]
    assert kinds == ["Transformer", "Pooling", "Normalize"]
