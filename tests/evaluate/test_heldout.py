import numpy as np
import pytest
import torch

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.errors import DataError
from tunesmith.evaluate.heldout import heldout_loss
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import PAD, tiny_model


def example(row, length, trained):
    rng = np.random.default_rng(row)
    mask = np.zeros(length, dtype=bool)
    mask[list(trained)] = True
    return Example(rng.integers(0, 256, length).astype(np.int32), mask, "rows.jsonl", row)


EXAMPLES = [
    example(1, 6, [2, 3, 5]),
    example(2, 3, [1]),
    example(3, 9, [8]),
    example(4, 4, [1, 2, 3]),
    example(5, 12, range(4, 12)),
]


def ids_as_loss(batch):
    """Stands in for the model: the loss of a token is its id."""
    return batch.targets.float()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "groups", [[[0, 1, 2, 3, 4]], [[0], [1], [2], [3], [4]], [[0, 1, 2], [3, 4]]]
)
def test_each_row_gets_the_loss_of_its_own_tokens(packed, groups):
    batches = [collate([EXAMPLES[i] for i in group], packed, PAD) for group in groups]
    got = heldout_loss(ids_as_loss, batches)
    expected = [float(e.input_ids[e.trained].sum()) for e in EXAMPLES]
    assert got.per_row_sum.tolist() == expected
    assert got.per_row_count.tolist() == [3, 1, 1, 3, 8]
    assert got.loss == sum(expected) / 16


@pytest.mark.parametrize("packed", [True, False])
def test_the_loss_is_that_of_the_model_row_by_row(packed):
    model = tiny_model(seed=0)
    policy = Policy(model, "reference", torch.float32)
    got = heldout_loss(policy.token_nll, [collate(EXAMPLES, packed, PAD)])
    for row, e in enumerate(EXAMPLES):
        ids = torch.from_numpy(e.input_ids.astype(np.int64))
        with torch.no_grad():
            log_probs = model(input_ids=ids[None]).logits[0].double().log_softmax(-1)
        nll = -log_probs[:-1].gather(1, ids[1:, None]).squeeze(1)
        expected = nll[torch.from_numpy(e.trained[1:])].sum().item()
        assert got.per_row_sum[row] == pytest.approx(expected, rel=1e-5)


def test_a_diverged_model_shows():
    got = heldout_loss(lambda batch: torch.full((16,), torch.nan), [collate(EXAMPLES, True, PAD)])
    assert np.isnan(got.loss)


@pytest.mark.parametrize("batches", [[], [collate([example(1, 4, [])], True, PAD)]])
def test_no_trained_token_is_an_error(batches):
    with pytest.raises(DataError, match="data.eval: got no trained token"):
        heldout_loss(ids_as_loss, batches)
