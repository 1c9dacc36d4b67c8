import torch
from transformers import DynamicCache, MistralConfig

from tunesmith.generate.cache import SPARE_TOKENS, GrowingLayer, growing_cache
from tunesmith.testing.tiny import tiny_model


def states(rows, tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, 2, tokens, 4, generator=generator),
        torch.randn(rows, 2, tokens, 4, generator=generator),
    )


def test_holds_what_the_cache_of_transformers_holds():
    config = tiny_model().config
    ours, theirs = growing_cache(config), DynamicCache(config=config)
    rows = 3
    for step, tokens in enumerate([5, *[1] * (SPARE_TOKENS + 3), 90, 1]):
        if step in (4, 70):
            keep = torch.tensor([0, 2] if step == 4 else [1])
            rows = len(keep)
            ours.reorder_cache(keep)
            theirs.reorder_cache(keep)
        for layer in range(2):
            new = states(rows, tokens, seed=2 * step + layer)
            got, expected = ours.update(*new, layer), theirs.update(*new, layer)
            torch.testing.assert_close(got, expected, rtol=0, atol=0)
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_one_more_token_copies_nothing():
    layer = GrowingLayer()
    layer.update(*states(2, 5, 0))
    place = layer.keys.data_ptr()
    for step in range(SPARE_TOKENS):
        layer.update(*states(2, 1, step))
    assert layer.keys.data_ptr() == place
    layer.update(*states(2, 1, 0))
    assert layer.keys.data_ptr() != place


def test_layers_of_other_kinds_stay():
    config = MistralConfig(num_hidden_layers=2, sliding_window=8)
    kinds = [type(layer) for layer in growing_cache(config).layers]
    assert kinds == [type(layer) for layer in DynamicCache(config=config).layers]
    assert GrowingLayer not in kinds
