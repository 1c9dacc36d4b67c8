"""On-policy distillation: a teacher judges every token of answers that the student draws itself.

    L = sum_t D(p(. | x, y_<t) || q(. | x, y_<t))  /  number of tokens,    y ~ q(. | x)

GKD, arXiv:2306.13649, eq. 3 and algorithm 1 with a student share of 1; p is the teacher, q the
student, both at the temperature at which y is drawn, and no gradient flows through the drawing. The
divergences D stand in `_divergence.py`. With D = KL(q || p) it is what MiniLLM and Thinking
Machines' on-policy distillation minimise, token by token. Student shares below 1: train with
`distill` first.

The teacher stays in memory and is asked about each rollout; its `top_k` most likely tokens are
used. Graders are only watched: rewards teach nothing here.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tunesmith.data.example import Batch
from tunesmith.data.rollout import Group, Lesson
from tunesmith.data.template import Renderer
from tunesmith.methods._divergence import Taught, apart
from tunesmith.methods._sampled import Asking, Sampled, trainable
from tunesmith.methods.base import LossSum
from tunesmith.models.policy import Policy

NEEDS = frozenset({"sampler", "teacher"})


class Config(Taught, Sampled):
    """Keys of `method` with `name: gkd`."""

    name: Literal["gkd"] = "gkd"
    """Train on what a teacher thinks of the model's own answers."""
    divergence: Literal["forward", "reverse", "jsd"] = "reverse"
    """forward covers all that the teacher would say, reverse seeks what it would say most."""
    num_answers: int = Field(1, ge=1)
    """Answers drawn to each prompt."""

    @property
    def teacher_tokens(self) -> int:
        """Tokens of a teacher that are asked for in each place of an answer."""
        return self.top_k


def encoder(renderer: Renderer, config: Config) -> Asking:
    """What turns a row into a prompt and its reference, which is never trained."""
    return Asking(renderer)


def lessons(groups: Sequence[Group], config: Config) -> list[Lesson]:
    """Every answer is trained on, or with `cut: mask` those that came to an end."""
    return [Lesson(trainable(group, config)) for group in groups]


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The divergence summed over the tokens of the answers, in nats, and how many they are.

    Figures: `teacher_kept`, the share of the teacher's probability that its kept tokens have.
    """
    each_N = apart(policy, batch, config, config.temperature)
    count = batch.num_trained
    kept = batch.numbers["teacher_log_probs"].exp().sum()
    return LossSum(each_N.sum(), count, {"teacher_kept": (kept, count)})
