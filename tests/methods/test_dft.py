"""The loss of dft: by hand, its gradient, and what TRL computes."""

import math

import numpy as np
import pytest
import torch

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.methods import dft
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import NUM_VOCABULARY, tiny_model


def _batch(weights=None):
    ids = np.array([5, 9, 2, 7, 11], np.int32)
    numbers = {} if weights is None else {"weights": np.array(weights, np.float32)}
    return collate([Example(ids, np.arange(5) >= 3, "f", 1, (), numbers)], True, 0)


def test_a_model_that_knows_nothing_loses_log_v_over_v_a_token():
    model = tiny_model(seed=0)
    torch.nn.init.zeros_(model.lm_head.weight)
    policy = Policy(model, "fast", torch.float32)
    expected = math.log(NUM_VOCABULARY) / NUM_VOCABULARY
    loss = dft.loss(policy, _batch(), dft.Config())
    assert (loss.count, loss.total.item()) == (2, pytest.approx(2 * expected, rel=1e-6))
    weighed = dft.loss(policy, _batch([0.5, 1.0]), dft.Config())
    assert (weighed.count, weighed.total.item()) == (1.5, pytest.approx(1.5 * expected, rel=1e-6))


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_the_gradient_is_that_of_less_probability(kernels):
    policy = Policy(tiny_model(seed=1), kernels, torch.float32)
    dft.loss(policy, _batch(), dft.Config()).total.backward()
    got = [p.grad.clone() for p in policy.model.parameters()]
    policy.model.zero_grad()
    (-torch.exp(-policy.token_nll(_batch()))).sum().backward()
    for mine, other in zip(got, policy.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other.grad, rtol=1e-4, atol=1e-7)


# TRL 1.16 itself sets what transformers 5.23 calls deprecated.
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning")
def test_it_is_what_trl_computes(tmp_path):
    """TRL 1.16, `SFTTrainer.compute_loss` with loss_type="dft", on the same model and tokens."""
    trl = pytest.importorskip("trl", reason="the comparison needs trl")
    datasets = pytest.importorskip("datasets")
    model = tiny_model(seed=1)
    policy = Policy(model, "reference", torch.float32)
    mine = dft.loss(policy, _batch(), dft.Config())
    ids = torch.tensor([[5, 9, 2, 7, 11]])
    labels = torch.tensor([[-100, -100, -100, 7, 11]])
    config = trl.SFTConfig(
        output_dir=str(tmp_path), loss_type="dft", report_to=[], use_cpu=True, bf16=False
    )
    rows = datasets.Dataset.from_list([{"input_ids": ids[0].tolist()}])
    from tunesmith.testing.tiny import byte_tokenizer

    trainer = trl.SFTTrainer(
        model, args=config, train_dataset=rows, processing_class=byte_tokenizer()
    )
    theirs = trainer.compute_loss(trainer.model, {"input_ids": ids, "labels": labels})
    assert theirs.item() == pytest.approx((mine.total / mine.count).item(), rel=1e-5)
