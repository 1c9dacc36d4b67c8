"""TRL: SFTTrainer and DPOTrainer with PEFT, as installed, or as its documentation tunes them."""

from typing import Any

from datasets import Dataset
from hugging_face import Clock, arguments, counted, fast_type, lora_config, quantization
from steps import Steps, labels_of, read_rows, report
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train and report."""
    steps = Steps()
    settings = _settings(job)
    is_dpo = job["method"] == "dpo"
    config, kind = (DPOConfig, DPOTrainer) if is_dpo else (SFTConfig, SFTTrainer)
    trainer = counted(kind, steps)(
        model=job["base"],
        args=config(**settings),
        train_dataset=_pairs(job) if is_dpo else _tokens(job),
        processing_class=PreTrainedTokenizerFast.from_pretrained(job["base"]),
        peft_config=lora_config(job),
        quantization_config=quantization(job),
        callbacks=[Clock(steps)],
    )
    trainer.train()
    if settings.get("padding_free"):  # DPOTrainer is handed padded rows and takes the padding out
        for step in steps.list:
            step["computed"] = step["tokens"]
    shown = {key: settings[key] for key in settings if key not in ("output_dir", "disable_tqdm")}
    return {"steps": steps.list, "settings": shown}


def _settings(job: dict[str, Any]) -> dict[str, Any]:
    """The trainer's arguments: defaults, or the tuned ones.

    Rows laid end to end (padding_free) have their attention masked on a CPU, where TRL has no
    FlashAttention: right, and square in the tokens of the pass. One row in a pass has no padding
    either. Which of them is faster depends on rows and machine, so both are sides.

    Weights that are trained stay in fp32, under autocast: in bf16 most updates are lost in rounding
    (after one step at 2e-5 on a few short rows the loss was 2.62 instead of 1.52).
    """
    rows_per_pass = min(job.get("rows_per_pass", job["rows_per_step"]), job["rows_per_step"])
    settings = arguments(job, rows_per_pass) | {"max_length": job["max_tokens"]}
    if job.get("tuned", False):
        fast = fast_type()
        settings |= {"gradient_checkpointing": False, "bf16": fast == "bfloat16"}
        if job["adapter"] != "full":
            settings["model_init_kwargs"] = {"dtype": fast}
    if job.get("padding_free", False):
        settings |= {"padding_free": True, "max_length": None}
    return settings


def _tokens(job: dict[str, Any]) -> Dataset:
    rows = read_rows(job)
    return Dataset.from_list(
        [{"input_ids": row["input_ids"], "labels": labels_of(row)} for row in rows]
    )


def _pairs(job: dict[str, Any]) -> Dataset:
    keys = ("prompt", "chosen", "rejected")
    return Dataset.from_list([{key: row[key] for key in keys} for row in read_rows(job)])


if __name__ == "__main__":
    report(main)
