"""The loss and the figures of pretrain, by hand."""

import math

import numpy as np
import pytest
import torch

from tunesmith.data.collate import collate
from tunesmith.data.documents import Documents
from tunesmith.data.example import Example
from tunesmith.data.row import Text
from tunesmith.data.template import Renderer
from tunesmith.methods import pretrain
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import IM_END, NUM_VOCABULARY, byte_tokenizer, tiny_model


def _batch(text):
    renderer = Renderer(byte_tokenizer(), frozenset({IM_END}), max_tokens=8)
    made = pretrain.encoder(renderer, pretrain.Config()).examples(Text(text))
    return collate([_example(one) for one in made], True, 0)


def _example(one):
    numbers = {name: np.array([value], np.float32) for name, value in one.numbers.items()}
    return Example(one.input_ids, one.trained, "f", 1, (), numbers)


def test_a_model_that_knows_nothing_loses_log_v_a_token_and_its_bits_a_byte():
    model = tiny_model(seed=0)
    torch.nn.init.zeros_(model.lm_head.weight)
    # 11 bytes and the end are 12 tokens, in parts of 8 and 4: 10 are predicted, 9 of them bytes.
    batch = _batch("hello world")
    loss = pretrain.loss(Policy(model, "fast", torch.float32), batch, pretrain.Config())
    assert loss.count == 10
    assert loss.total.item() == pytest.approx(10 * math.log(NUM_VOCABULARY), rel=1e-6)
    bits, size = loss.figures["bits_per_byte"]
    assert size == 9
    assert bits.item() == pytest.approx(10 * math.log2(NUM_VOCABULARY), rel=1e-6)


def test_held_out_texts_have_a_perplexity_and_bits_per_byte():
    sums, counts = np.array([3.0, 5.0]), np.array([2, 2])
    found = pretrain.overall({"loss": sums}, counts, {"bytes": np.array([1.0, 3.0])})
    assert found == pytest.approx({"perplexity": math.exp(2.0), "bits_per_byte": 2 / math.log(2)})
    diverged = pretrain.overall(
        {"loss": np.array([np.inf])}, np.array([1]), {"bytes": np.array([1.0])}
    )
    assert diverged["perplexity"] > 1e300


def test_documents_stay_apart_unless_told_otherwise():
    renderer = Renderer(byte_tokenizer(), frozenset({IM_END}))
    assert isinstance(pretrain.encoder(renderer, pretrain.Config()), Documents)
    apart = pretrain.encoder(renderer, pretrain.Config()).fingerprint
    assert pretrain.encoder(renderer, pretrain.Config(across=True)).fingerprint != apart
