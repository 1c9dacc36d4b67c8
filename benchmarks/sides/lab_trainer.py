"""The lab's side for Hugging Face Trainer, and for TRL's SFTTrainer when it is asked for.

Usage: lab_trainer.py JOB; JSON with `system` (hf-trainer or trl), `base`, `rows`, `work`.
"""

import json
import logging
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from lab import KEEP, NUM_STEPS, SAVE_EVERY, Watch, serve
from lab_digest import digest, flat
from lab_faults import answers
from steps import labels_of, read_rows
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

ROWS_PER_STEP = 4
NO_MESSAGE = "mtime may not be reliable on this filesystem"
"""Opens a warning that comes or not as checkpoints happen to be more or less than a second apart.
It says nothing of any fault, and must not count as if it did."""


class Listener(logging.Handler):
    """Keeps every warning that is logged or raised as a Python warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        logging.captureWarnings(True)
        warnings.simplefilter("default")
        for name in ("", "transformers", "trl", "accelerate", "py.warnings"):
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Note a message, each once, cut short."""
        text = record.getMessage()[:300]
        if text not in self.said and not text.startswith(NO_MESSAGE):
            self.said.append(text)


class HuggingFace:
    """Both trainers: TRL's is a subclass, with the same saving and resuming."""

    def __init__(self, job: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self.job = job
        rows = read_rows(job)
        self.rows = Dataset.from_list(
            [{"input_ids": r["input_ids"], "labels": labels_of(r)} for r in rows]
        )
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(job["base"])

    def train(self, run: Path, watch: Watch) -> dict[str, Any]:
        """Train from the beginning."""
        return self._run(run, watch, None)

    def resume(self, run: Path, watch: Watch) -> dict[str, Any]:
        """`trainer.train(resume_from_checkpoint=True)`, as the documentation says."""
        return self._run(run, watch, True)

    def checkpoints(self, run: Path) -> dict[int, Path]:
        """Folders `checkpoint-N`."""
        return {int(p.name.rpartition("-")[2]): p for p in run.glob("checkpoint-*")}

    def versions(self) -> dict[str, str]:
        """Of what takes part."""
        names = ["torch", "transformers", "accelerate", "safetensors"]
        return {name: version(name) for name in names + ["trl"] * (self.job["system"] == "trl")}

    def _run(self, run: Path, watch: Watch, resume: bool | None) -> dict[str, Any]:
        listener = Listener()
        trainer = self._trainer(run, watch)
        try:
            trainer.train(resume_from_checkpoint=resume)
        except Exception as error:
            error.said = listener.said
            raise
        weights = dict(trainer.model.state_dict())
        return {
            "weights": digest(weights),
            "optimizer": digest(flat(trainer.optimizer.state_dict())),
            "finite": all(bool(torch.isfinite(t).all()) for t in weights.values()),
            "said": listener.said,
            "resumed": getattr(trainer, "begun_at", None) or None,
        }

    def _trainer(self, run: Path, watch: Watch) -> Trainer:
        settings = {
            "output_dir": str(run),
            "per_device_train_batch_size": ROWS_PER_STEP,
            "max_steps": NUM_STEPS,
            "learning_rate": 1e-3,
            "save_strategy": "steps",
            "save_steps": SAVE_EVERY,
            "save_total_limit": KEEP,
            "logging_steps": 1,
            "report_to": [],
            "disable_tqdm": True,
            "seed": 0,
            "use_cpu": True,
        }
        if self.job["system"] == "trl":
            from trl import SFTConfig, SFTTrainer

            more = {"max_length": None, "bf16": False, "gradient_checkpointing": False}
            return _watched(SFTTrainer, watch)(
                model=self.job["base"],
                args=SFTConfig(**settings, **more),
                train_dataset=self.rows,
                processing_class=self.tokenizer,
            )
        return _watched(Trainer, watch)(
            model=AutoModelForCausalLM.from_pretrained(self.job["base"], dtype=torch.float32),
            args=TrainingArguments(**settings),
            train_dataset=self.rows,
            data_collator=DataCollatorForSeq2Seq(self.tokenizer),
        )


def _watched(kind: type[Trainer], watch: Watch) -> type[Trainer]:
    """The trainer `kind`, which tells when it saves, and whose loss can be poisoned."""

    class Watched(kind):
        def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            watch.save_begins(self.state.global_step)
            super()._save_checkpoint(*args, **kwargs)
            watch.save_ended(self.state.global_step)

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            if not hasattr(self, "begun_at"):
                self.begun_at = self.state.global_step
            return super().training_step(*args, **kwargs)

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            found = super().compute_loss(*args, **kwargs)
            if not watch.poisons(self.state.global_step + 1):
                return found
            return (
                (found[0] * torch.nan, *found[1:])
                if isinstance(found, tuple)
                else (found * torch.nan)
            )

    return Watched


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    serve(answers(HuggingFace(asked), Path(asked["work"])))
