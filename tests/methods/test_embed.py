"""The loss of embed by pencil, and that a step cut into passes has the same one."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.data.row import RowProblem
from tunesmith.data.shapes import related
from tunesmith.data.template import Renderer
from tunesmith.methods import base, embed
from tunesmith.methods.embed import Config, judged
from tunesmith.models.heads import put
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import IM_END, PAD, byte_tokenizer, tiny_model

ROWS = [
    {"anchor": "one", "positive": "1"},
    {"anchor": "two", "positive": "the second", "negatives": ["II", "zwei 🙂"]},
    {"anchor": "a longer anchor", "positive": "1"},
    {"anchor": "b", "positive": "4", "negatives": ["44"]},
]


def _same(*rows):
    return torch.tensor(rows, dtype=torch.bool)


def test_two_rows_and_a_negative_by_hand():
    anchors = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    texts = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    found = judged(anchors, texts, _same([0, 0, 0], [0, 0, 0]), Config(temperature=0.5))
    half = math.sqrt(0.5)
    # cosines are (1, half, 0) and (0, half, 1): the second row's own is 'half', one is nearer
    first = -2 + math.log(math.exp(2) + math.exp(2 * half) + 1)
    second = -2 * half + math.log(1 + math.exp(2 * half) + math.exp(2))
    assert found["loss"].tolist() == pytest.approx([first, second])
    assert found["recall@1"].tolist() == [1.0, 0.0]
    assert found["mrr"].tolist() == [1.0, 0.5]


def test_the_same_text_in_another_row_does_not_count():
    anchors, texts = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    found = judged(anchors, texts, _same([0, 1], [1, 0]), Config())
    assert found["loss"].tolist() == [0.0, 0.0]
    assert found["recall@1"].tolist() == [1.0, 1.0]


def test_vectors_that_are_all_the_same_find_nothing():
    found = judged(torch.ones(4, 2), torch.ones(4, 2), torch.zeros(4, 4, dtype=bool), Config())
    assert found["loss"].tolist() == pytest.approx([math.log(4)] * 4)
    assert found["recall@1"].tolist() == [0.25] * 4
    assert found["mrr"].tolist() == pytest.approx([0.4] * 4)


def test_the_first_numbers_are_a_vector_too_where_that_is_asked():
    anchors, texts = torch.randn(3, 8), torch.randn(5, 8)
    none = torch.zeros(3, 5, dtype=torch.bool)
    both = judged(anchors, texts, none, Config(dims=[4]))["loss"]
    first = judged(anchors[:, :4], texts[:, :4], none, Config())["loss"]
    torch.testing.assert_close(both, first + judged(anchors, texts, none, Config())["loss"])


def _examples():
    renderer = Renderer(byte_tokenizer(), frozenset({IM_END}))
    encoder = embed.encoder(renderer, Config())
    found = []
    for number, row in enumerate(ROWS, 1):
        (one,) = encoder.examples(related.read(row))
        numbers = {name: np.float32([value]) for name, value in one.numbers.items()}
        found.append(Example(one.input_ids, one.trained, "f", number, one.parts, numbers))
    return found


def _step(config, cuts):
    """Loss and gradients of one step of all rows, in passes of so many rows."""
    language = tiny_model(seed=0)
    model = put(language, embed.head(config), byte_tokenizer(), seed=0).requires_grad_(True)
    policy, examples = Policy(model, "fast", torch.float32, language), iter(_examples())
    batches = [collate([next(examples) for _ in range(size)], True, PAD) for size in cuts]
    told = base.informed(lambda batch: embed.ahead(policy, batch, config), batches)
    total, measured = 0.0, []
    for batch in told:
        part = embed.loss(policy, batch, config)
        part.total.backward()
        total += part.total.item()
        with torch.no_grad():
            measured.append(embed.measure(policy, batch, config)["loss"])
    return total, {n: p.grad for n, p in model.named_parameters()}, torch.cat(measured)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("cuts", [[1, 1, 1, 1], [3, 1], [1, 2, 1]])
def test_a_step_cut_into_passes_has_the_same_loss_and_gradient(cuts, pooling):
    config = Config(pooling=pooling, dims=[16])
    whole, wanted, each = _step(config, [4])
    total, gradients, found = _step(config, cuts)
    assert total == pytest.approx(whole, rel=1e-5)
    assert each.sum().item() == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(found, each, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-5)


def test_the_loss_of_a_step_is_that_of_a_plain_product():
    config = Config(pooling="last")
    total, _, _ = _step(config, [2, 2])
    model = tiny_model(seed=0).model.eval()

    def vector(text):
        ids = torch.tensor([list(text.encode())])
        return F.normalize(model(input_ids=ids).last_hidden_state[0, -1], dim=0)

    anchors = torch.stack([vector(row["anchor"]) for row in ROWS])
    texts = [row["positive"] for row in ROWS] + [n for r in ROWS for n in r.get("negatives", [])]
    cosines = anchors @ torch.stack([vector(text) for text in texts]).t()
    cosines[0, 2] = cosines[2, 0] = -torch.inf  # Both have the positive "1".
    expected = F.cross_entropy(cosines / 0.05, torch.arange(4), reduction="sum")
    assert total == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"query": "q", "pos": ["a", "b"]}, "pos: 2 texts; expected one text"),
        ({"query": "q", "pos": ["a"], "neg": ["a"]}, "neg with the positive"),
        ({"anchor": " ", "positive": "a"}, "an empty answer"),
    ],
)
def test_rows_that_say_nothing_are_refused(row, match):
    with pytest.raises(RowProblem, match=match):
        related.read(row)
