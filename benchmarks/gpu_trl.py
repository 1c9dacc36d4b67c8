"""The same case with TRL's SFTTrainer and PEFT: `python benchmarks/gpu_trl.py CASE`.

Needs TRL, and no Tunesmith. Examples are all of one length, so that nothing is padded and plain
causal attention is right without packing: the best that a batch can be for this side.
"""

import json
import sys
import tempfile
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
from datasets import Dataset
from gpu_cases import ALPHA, RANK, SHAPES, WARM_UP_STEPS, Case
from peft import LoraConfig
from tokenizers import Tokenizer, models
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """Seconds and loss of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the optimizer has moved."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(perf_counter())

    def on_log(self, args: Any, state: Any, control: Any, logs: dict, **kwargs: Any) -> None:
        """The log of a step comes right after its end."""
        if "loss" in logs:
            self.losses.append(logs["loss"])


def measure(case: Case) -> dict[str, Any]:
    """Train and report; `failed` says why there are no numbers."""
    clock = Clock()
    torch.manual_seed(0)
    keys = dict(SHAPES[case.shape])
    config = AutoConfig.for_model(keys.pop("model_type"), **keys)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with torch.device(device):
            dtype = torch.float32 if case.way == "full" else torch.bfloat16
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        with tempfile.TemporaryDirectory() as folder:
            _trainer(case, model, folder, clock).train()
    except torch.OutOfMemoryError as error:
        return {"failed": f"out of memory: {str(error).splitlines()[0]}"}
    ends = clock.ends[WARM_UP_STEPS - 1 :]
    peak = torch.cuda.max_memory_allocated() / (1 << 30) if device == "cuda" else None
    return {
        "seconds": [end - start for start, end in pairwise(ends)],
        "losses": clock.losses,
        "peak_gib": peak,
    }


def _trainer(case: Case, model: Any, folder: str, clock: Clock) -> SFTTrainer:
    num_steps = WARM_UP_STEPS + case.num_steps
    settings = SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=case.num_examples,
        max_steps=num_steps,
        learning_rate=2e-4,
        lr_scheduler_type="constant",
        warmup_steps=0,
        optim="adafactor" if case.way == "full" else "adamw_torch_fused",
        bf16=True,
        gradient_checkpointing=False,
        use_liger_kernel=case.side == "trl-liger",
        max_length=None,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    lora = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules="all-linear")
    return SFTTrainer(
        model=model,
        args=settings,
        train_dataset=_rows(case, num_steps),
        processing_class=_tokenizer(),
        peft_config=None if case.way == "full" else lora,
        callbacks=[clock],
    )


def _rows(case: Case, num_steps: int) -> Dataset:
    """Random tokens, all labelled."""
    size = (num_steps * case.num_examples, case.length)
    ids = torch.randint(SHAPES[case.shape]["vocab_size"], size, device="cpu").tolist()
    return Dataset.from_list([{"input_ids": row, "labels": row} for row in ids])


def _tokenizer() -> PreTrainedTokenizerFast:
    """One that the trainer wants and nobody uses: rows come as ids."""
    backend = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<eos>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="<eos>"
    )


if __name__ == "__main__":
    print(json.dumps(measure(Case(**json.loads(sys.argv[1])))))
