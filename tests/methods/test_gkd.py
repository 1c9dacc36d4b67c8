"""On-policy distillation by hand: reverse KL over two known tokens and all that is left."""

from math import log

import numpy as np
import pytest
import torch

from tests.methods.drawn import batch_of, group
from tunesmith.methods import gkd

TEACHER = [[0.5, 0.3], [0.9, 0.05], [0.25, 0.25]]
STUDENT = [[0.4, 0.4], [0.6, 0.1], [0.25, 0.25]]


class Student:
    """Gives its log-probabilities of the tokens it is asked for."""

    def __init__(self):
        self.log_probs = torch.tensor(STUDENT).log().requires_grad_()
        self.asked = []

    def log_probs_at(self, batch, ids_NK, temperature):
        """As `Policy` does."""
        self.asked.append((ids_NK.tolist(), temperature))
        return self.log_probs


def _drawn(cut="train", stopped=(True, False)):
    config = gkd.Config(teacher="starter", temperature=0.7, cut=cut)
    one = group(
        [2, 1],
        [0.0, 1.0],
        list(stopped),
        teacher_ids=[[4, 5], [6, 7], [8, 9]],
        teacher_log_probs=np.log(TEACHER),
    )
    return config, one, gkd.lessons([one], config)


def _kl(a, b):
    rests = (1 - sum(a), 1 - sum(b))
    return sum(x * log(x / y) for x, y in [*zip(a, b, strict=True), rests])


@pytest.mark.parametrize(
    ("kind", "each"),
    [
        ("reverse", lambda p, q: _kl(q, p)),
        ("forward", _kl),
        (
            "jsd",
            lambda p, q: (
                0.5 * _kl(p, m := [(x + y) / 2 for x, y in zip(p, q, strict=True)])
                + 0.5 * _kl(q, m)
            ),
        ),
    ],
)
def test_the_loss_is_the_divergence_at_every_drawn_token(kind, each):
    config, one, lessons = _drawn()
    student = Student()
    config = config.model_copy(update={"divergence": kind})
    found = gkd.loss(student, batch_of([one], lessons), config)
    expected = sum(each(p, q) for p, q in zip(TEACHER, STUDENT, strict=True))
    assert found.total.item() == pytest.approx(expected, abs=1e-6)
    assert found.count == 3
    assert student.asked == [([[4, 5], [6, 7], [8, 9]], 0.7)]
    assert found.figures["teacher_kept"][0].item() == pytest.approx(0.8 + 0.95 + 0.5)
    found.total.backward()
    # Where both agree nothing pulls; elsewhere something does.
    assert student.log_probs.grad[2].abs().max() < 1e-6
    assert student.log_probs.grad[:2].abs().min() > 1e-3


def test_rewards_teach_nothing_and_cut_answers_can_be_left_out():
    _, one, lessons = _drawn()
    assert lessons[0].trained.tolist() == [True, True]
    assert not lessons[0].by_answer
    _, one, lessons = _drawn(cut="mask")
    assert lessons[0].trained.tolist() == [True, False]
    batch = batch_of([one], lessons)
    assert batch.numbers["teacher_ids"].tolist() == [[4, 5], [6, 7]]
