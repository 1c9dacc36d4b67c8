"""Losses and gradients of sft and dft beside those of TRL's SFTTrainer: same model, same rows."""

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.methods import base
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import byte_tokenizer, tiny_model

trl = pytest.importorskip("trl", reason="the comparison needs the extra `compare`")
datasets = pytest.importorskip("datasets", reason="it comes with trl")

# TRL 1.16 itself sets what transformers 5.23 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning")

ROWS = [([5, 9, 2, 7, 11], 3), ([4, 8, 6], 1), ([12, 3, 3, 10, 14, 2, 9], 4)]
"""Tokens, and how many of them are the prompt's."""
THEIRS = {"sft": "nll", "dft": "dft"}


def _ours(name, kernels):
    policy = Policy(tiny_model(seed=1), kernels, torch.float32)
    examples = [
        Example(np.array(ids, np.int32), np.arange(len(ids)) >= prompt, "f", row, (), {})
        for row, (ids, prompt) in enumerate(ROWS)
    ]
    method = base.load(name)
    found = method.loss(policy, collate(examples, True, 0), method.Config())
    (found.total / found.count).backward()
    return (found.total / found.count).item(), _gradients(policy.model)


def _trl(name, folder):
    inputs = {
        "input_ids": _padded([ids for ids, _ in ROWS], 0),
        "attention_mask": _padded([[1] * len(ids) for ids, _ in ROWS], 0),
        "labels": _padded([[-100] * n + ids[n:] for ids, n in ROWS], -100),
    }
    config = trl.SFTConfig(
        str(folder), loss_type=THEIRS[name], report_to=[], use_cpu=True, bf16=False
    )
    rows = datasets.Dataset.from_list([{"input_ids": ids} for ids, _ in ROWS])
    model = tiny_model(seed=1)
    trainer = trl.SFTTrainer(
        model, args=config, train_dataset=rows, processing_class=byte_tokenizer()
    )
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.item(), _gradients(model)


def _padded(rows, value):
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def _gradients(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("name", THEIRS)
def test_loss_and_gradient_are_those_of_trl(name, kernels, tmp_path):
    ours, theirs = _ours(name, kernels), _trl(name, tmp_path)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=1e-6)
