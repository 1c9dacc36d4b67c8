"""One case on this machine with Tunesmith's own loop: `python -m benchmarks.gpu_run CASE`.

CASE is a JSON object of the attributes of `gpu_cases.Case`; the last line of the output is a JSON
object.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from benchmarks.gpu_cases import ALPHA, RANK, SHAPES, WARM_UP_STEPS, Case
from benchmarks.limit import rate
from tunesmith.adapters import full, lora
from tunesmith.data.collate import collate
from tunesmith.data.example import Batch, Example
from tunesmith.engine import optimizer
from tunesmith.engine.guard import Guard
from tunesmith.engine.loop import train
from tunesmith.engine.parts import Parts
from tunesmith.engine.schedule import LearningRate
from tunesmith.engine.watch import Watch
from tunesmith.errors import TunesmithError
from tunesmith.methods import sft
from tunesmith.models import fast, ways
from tunesmith.models.fp8 import Fp8Linear
from tunesmith.models.kernels import build
from tunesmith.models.nf4 import Nf4Linear
from tunesmith.models.policy import Policy
from tunesmith.models.ways import Place
from tunesmith.runs.events import Event, Step

RATE = 2e-4
SEED = 0
OPTIMIZER = {"lora": "adamw", "full": "adafactor"}
"""AdamW's moments of 8 billion weights in fp32 (64 GB) leave no room on one GPU."""


class SameBatch:
    """A loader that has one batch for every step."""

    def __init__(self, batch: Batch, num_steps: int) -> None:
        self._batch, self.num_steps = batch, num_steps

    def step(self, index: int) -> list[Batch]:
        """The micro-batches of a step."""
        return [self._batch]

    def epoch_after(self, index: int) -> float:
        """How many epochs are done when step `index` is."""
        return float(index + 1)


def measure(case: Case, device: torch.device) -> dict[str, Any]:
    """Build, train and report; `failed` says why there are no numbers."""
    torch.manual_seed(SEED)
    try:
        seen, notes = _run(case, device)
    except torch.OutOfMemoryError as error:
        return {"failed": f"out of memory: {str(error).splitlines()[0]}"}
    except TunesmithError as error:
        return {"failed": str(error).splitlines()[0]}
    timed = seen[WARM_UP_STEPS:]
    return notes | {
        "seconds": [step.seconds for step in timed],
        "losses": [step.loss for step in seen],
        "peak_gib": timed[-1].memory_gib,
    }


def _run(case: Case, device: torch.device) -> tuple[list[Step], dict[str, Any]]:
    model = _base(case, device)
    adapter = full if case.way == "full" else lora
    config = full.Config() if case.way == "full" else lora.Config(rank=RANK, alpha=ALPHA)
    attached = adapter.attach(model, config, SEED)
    laid = fast.lay_over(attached.model)
    policy = Policy(attached.model, "fast", torch.bfloat16)
    seen: list[Step] = []
    parameters = list(attached.trained.values())
    num_steps = WARM_UP_STEPS + case.num_steps
    parts = Parts(
        model=attached.model,
        loss=partial(sft.loss, policy, config=sft.Config()),
        loader=SameBatch(_batch(case), num_steps),
        parameters=parameters,
        optimizer=optimizer.build(OPTIMIZER[case.adapter], parameters, RATE, 0.0, {}),
        learning_rate=LearningRate(RATE, "constant", 0.0, num_steps),
        clip=1.0,
        seed=SEED,
        device=device,
        notice=_keep(seen),
        evaluate=lambda step: False,
        save=lambda step, must: None,
        stop=lambda: False,
        guard=Guard(num_steps),
        watch=Watch(parameters),
    )
    train(parts)
    width = SHAPES[case.shape]["head_dim"]
    way = ways.choose(Place(device, torch.bfloat16, width))
    attention = "blocks" if device.type == "cpu" else way.__module__.rpartition(".")[2]
    return seen, {"attention": attention, "kernels": build.describe(), "fast": laid}


def _base(case: Case, device: torch.device) -> PreTrainedModel:
    """The shape with random weights, frozen; fp32 where they are to be trained."""
    keys = dict(SHAPES[case.shape])
    config = AutoConfig.for_model(keys.pop("model_type"), **keys)
    dtype = torch.float32 if case.way == "full" else torch.bfloat16
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.requires_grad_(False).eval()
    if case.way in _REPLACE:
        head = model.get_output_embeddings()
        for name, module in list(model.named_modules()):
            if type(module) is nn.Linear and module is not head:
                model.set_submodule(name, _REPLACE[case.way](module))
    return model


_REPLACE: dict[str, Callable[[nn.Linear], nn.Linear]] = {"fp8": Fp8Linear, "qlora": Nf4Linear}


def _batch(case: Case) -> Batch:
    """Random tokens, all labelled but the first of each example."""
    draw = np.random.default_rng(SEED)
    vocabulary = SHAPES[case.shape]["vocab_size"]
    examples = [
        Example(
            draw.integers(0, vocabulary, case.length).astype(np.int32),
            np.arange(case.length) > 0,
            "random",
            row + 1,
        )
        for row in range(case.num_examples)
    ]
    return collate(examples, packed=True, pad_id=0)


def _keep(seen: list[Step]) -> Callable[[Event], None]:
    def notice(event: Event) -> None:
        if isinstance(event, Step):
            seen.append(event)

    return notice


def product_rate(case: Case) -> float:
    """The best rate of a bf16 product of the shape's own sides on this device, in FLOP/s."""
    keys = SHAPES[case.shape]
    wide, inner = keys["hidden_size"], keys["intermediate_size"]
    sides = [(wide, wide), (2 * inner, wide), (wide, inner)]
    return max(rate(case.tokens_per_step, n, k, torch.bfloat16) for n, k in sides) * 1e9


def main() -> None:
    """Measure the case of the command line; print one line of JSON."""
    case = Case(**json.loads(sys.argv[1]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = measure(case, device)
    print(json.dumps(found | {"products_per_second": product_rate(case)}))


if __name__ == "__main__":
    main()
