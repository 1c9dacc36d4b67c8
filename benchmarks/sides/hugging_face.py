"""What the sides built on transformers' Trainer share: counting, timing, equal arguments."""

from time import perf_counter
from typing import Any

import torch
from steps import Steps
from transformers import Trainer, TrainerCallback


class Clock(TrainerCallback):
    """Notes the end of each optimizer step, and the loss that the trainer logs for it."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the optimizer has moved and the gradients are gone."""
        self.steps.done()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict, **kwargs: Any) -> None:
        """The log of a step comes right after its end."""
        if "loss" in logs:
            self.steps.lost(logs["loss"])


def counted(kind: type[Trainer], steps: Steps) -> type[Trainer]:
    """The trainer `kind`, counting what goes into the model."""

    class Counted(kind):
        def training_step(self, model: Any, inputs: dict, *args: Any, **kwargs: Any) -> Any:
            steps.saw(*_counts(inputs))
            return super().training_step(model, inputs, *args, **kwargs)

    return Counted


def arguments(job: dict[str, Any], rows_per_pass: int) -> dict[str, Any]:
    """Arguments of the trainer that are equal for all sides; what is left out is its default."""
    return {
        "output_dir": job["work"],
        "per_device_train_batch_size": rows_per_pass,
        "gradient_accumulation_steps": job["rows_per_step"] // rows_per_pass,
        "max_steps": job["steps"],
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": 0,
        "use_cpu": not torch.cuda.is_available(),
    }


def fast_type() -> str:
    """`bfloat16`, or `float32` where products in bf16 are emulated and so take longer."""
    if torch.cuda.is_available():
        return "bfloat16"
    seconds = {}
    for name in ("bfloat16", "float32"):
        x = torch.ones(512, 576, dtype=getattr(torch, name))
        times = []
        for _ in range(8):
            start = perf_counter()
            x @ x.t()
            times.append(perf_counter() - start)
        seconds[name] = min(times)
    return min(seconds, key=seconds.get)


def lora_config(job: dict[str, Any]) -> Any:
    """PEFT's LoRA on every linear layer of the blocks; None for full fine-tuning."""
    if job["adapter"] == "full":
        return None
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=job["rank"],
        lora_alpha=job["alpha"],
        lora_dropout=0.0,
        target_modules="all-linear",
    )


def quantization(job: dict[str, Any]) -> Any:
    """The bitsandbytes settings of the case; None for a base that is not quantised."""
    if job["quantize"] == "none":
        return None
    from transformers import BitsAndBytesConfig

    if job["quantize"] == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )


def _counts(inputs: dict[str, torch.Tensor]) -> tuple[int, int, int]:
    """Real tokens, trained tokens and positions computed of one forward pass."""
    ids, labels = inputs["input_ids"], inputs.get("labels")
    mask = inputs.get("attention_mask")
    tokens = ids.numel() if mask is None else int(mask.sum())
    if labels is None:  # preference methods mark completions instead
        trained = int(inputs["completion_mask"].sum())
    else:
        trained = int((labels[:, 1:] != -100).sum())
    return tokens, trained, ids.numel()
