"""LlamaFactory: its SFT workflow, padded batches, no checkpointing.

It imports torchaudio for rows with sound. The wheel of the package index wants CUDA, so an empty
module stands in; nothing of it is called for text.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import transformers
from datasets import Dataset, DatasetDict
from hugging_face import Clock, arguments, counted
from steps import Refused, Steps, labels_of, read_rows, report


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train and report."""
    if job["method"] != "sft":
        raise Refused("LlamaFactory's DPO is TRL's trainer, which is measured as it is")
    settings = _settings(job)
    steps = Steps()
    run_exp, workflow = _import()
    workflow.CustomSeq2SeqTrainer = counted(workflow.CustomSeq2SeqTrainer, steps)
    run_exp(args=settings, callbacks=[Clock(steps)])
    hidden = ("output_dir", "tokenized_path", "model_name_or_path", "disable_tqdm")
    return {
        "steps": steps.list,
        "settings": {key: value for key, value in settings.items() if key not in hidden},
    }


def _import() -> tuple[Any, Any]:
    transformers.utils.is_torchaudio_available()  # asked before the stand-in is there, and kept
    sys.modules.setdefault("torchaudio", ModuleType("torchaudio"))
    from llamafactory.train.sft import workflow
    from llamafactory.train.tuner import run_exp

    return run_exp, workflow


def _settings(job: dict[str, Any]) -> dict[str, Any]:
    settings = arguments(job, job["rows_per_step"])
    del settings["train_sampling_strategy"]  # its own key is disable_shuffling
    settings |= {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": job["base"],
        "template": "smollm2",
        "dataset": "rows",  # wanted, and not looked at: the tokens are there
        "tokenized_path": _write_tokens(job),
        "cutoff_len": job["max_tokens"],
        "finetuning_type": job["adapter"],
        "disable_shuffling": True,
        "disable_gradient_checkpointing": True,
        "bf16": True,
        "overwrite_output_dir": True,
        "report_to": "none",
    }
    if job["adapter"] == "lora":
        settings |= {
            "lora_rank": job["rank"],
            "lora_alpha": job["alpha"],
            "lora_dropout": 0.0,
            "lora_target": "all",
        }
    if job["quantize"] != "none":
        bits = 4 if job["quantize"] == "nf4" else 8
        settings |= {"quantization_bit": bits, "quantization_method": "bnb"}
    return settings


def _write_tokens(job: dict[str, Any]) -> str:
    """The rows in the form that LlamaFactory keeps tokenised data in."""
    rows = [
        {
            "input_ids": row["input_ids"],
            "attention_mask": [1] * len(row["input_ids"]),
            "labels": labels_of(row),
            "images": None,
            "videos": None,
            "audios": None,
        }
        for row in read_rows(job)
    ]
    folder = Path(job["work"]) / "tokens"
    DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(folder)
    return str(folder)


if __name__ == "__main__":
    report(main)
