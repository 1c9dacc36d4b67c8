"""Hugging Face Trainer with PEFT and padded batches, frozen weights in the faster type."""

from typing import Any

from datasets import Dataset
from hugging_face import Clock, arguments, counted, fast_type, lora_config, quantization
from steps import Refused, Steps, labels_of, read_rows, report
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train and report."""
    if job["method"] != "sft":
        raise Refused(f"the plain Trainer has no {job['method']}")
    steps = Steps()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(job["base"])
    settings = arguments(job, job["rows_per_step"]) | {"bf16": fast_type() == "bfloat16"}
    trainer = counted(Trainer, steps)(
        model=_model(job),
        args=TrainingArguments(**settings),
        train_dataset=Dataset.from_list(
            [{"input_ids": r["input_ids"], "labels": labels_of(r)} for r in read_rows(job)]
        ),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        callbacks=[Clock(steps)],
    )
    trainer.train()
    shown = {key: settings[key] for key in settings if key not in ("output_dir", "disable_tqdm")}
    return {"steps": steps.list, "settings": shown}


def _model(job: dict[str, Any]) -> Any:
    """A frozen base in the faster type with PEFT's adapter; one trained whole stays in fp32."""
    from peft import get_peft_model, prepare_model_for_kbit_training

    full = job["adapter"] == "full"
    model = AutoModelForCausalLM.from_pretrained(
        job["base"],
        dtype="float32" if full else fast_type(),
        quantization_config=quantization(job),
    )
    if full:
        return model
    if job["quantize"] != "none":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return get_peft_model(model, lora_config(job))


if __name__ == "__main__":
    report(main)
