import pytest
import torch

from tunesmith.generate import detect
from tunesmith.generate.detect import fits, open_session
from tunesmith.generate.loop import Asked, Row
from tunesmith.generate.options import GenerateOptions
from tunesmith.generate.padded import PaddedSession
from tunesmith.generate.session import Session
from tunesmith.testing.tiny import tiny_model

ASKED = [Asked([1, 2, 3], [Row(4)]), Asked([4], [Row(4)])]


def options(**values):
    return GenerateOptions(4, frozenset(), 0, **values)


@pytest.mark.parametrize(("batch_rows", "room"), [(1, 1), (2, 2), (32, 2)])
def test_no_more_places_than_rows(batch_rows, room):
    session = open_session(tiny_model(), ASKED, options(batch_rows=batch_rows))
    assert isinstance(session, Session)
    assert session.room() == room


def test_fewer_places_where_the_cache_would_take_too_much(monkeypatch):
    model = tiny_model()
    asked = [Asked([1, 2, 3], [Row(98)]) for _ in range(9)]
    assert open_session(model, asked, options()).room() == 9
    # 2 layers x keys and values x 2 heads of 16 numbers x 4 bytes, for 100 tokens.
    row = 2 * 2 * 2 * 16 * 4 * 100
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    monkeypatch.setattr(detect, "LEAST_BYTES", 0)
    assert open_session(model, asked, options()).room() == weights // row < 9
    monkeypatch.setattr(detect, "LEAST_BYTES", weights + row)
    assert open_session(model, asked, options()).room() == weights // row + 1
    # Answers to one prompt begin together.
    monkeypatch.setattr(detect, "LEAST_BYTES", 0)
    long = [Asked([1], [Row(10**6), Row(10**6)])]
    assert open_session(model, long, options()).room() == 2


def test_tokens_that_meet_outside_of_attention_are_noticed():
    """A layer that mixes neighbours, as a short convolution does, would mix up prompts."""
    model = tiny_model(seed=1)
    assert fits(model)
    mixing = tiny_model(seed=1)

    def mix(module, args, output):
        return output + torch.roll(output, 1, dims=1)

    mixing.model.layers[0].mlp.register_forward_hook(mix)
    assert not fits(mixing)
    assert isinstance(open_session(mixing, ASKED, options()), PaddedSession)


def test_a_model_that_does_not_offer_the_interface_is_not_tried():
    model = tiny_model(seed=1)
    model._supports_attention_backend = False
    assert not fits(model)


def test_a_layer_of_another_kind_is_not_tried():
    """Chunked attention reaches the function through the mask alone, which is not built."""
    model = tiny_model(seed=1)
    model.config.layer_types = ["chunked_attention", "full_attention"]
    assert not fits(model)


def test_a_layer_that_slides_without_saying_so_is_noticed():
    model = tiny_model(seed=1)
    model.config.layer_types = ["sliding_attention", "full_attention"]
    assert not fits(model)


def test_a_model_is_tried_once():
    model = tiny_model(seed=1)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    assert fits(model)
    first = len(calls)
    assert first > 0
    assert fits(model)
    assert len(calls) == first
