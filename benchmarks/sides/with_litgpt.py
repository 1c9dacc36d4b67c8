"""LitGPT: its own LoRA and full fine-tuning loops, in bf16, or bf16-mixed if all is trained.

Its loops clip no gradients and know no tied head: with full fine-tuning it trains embedding and
head apart. The base is converted to LitGPT's format by its own script first.
"""

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning as L
import torch
from litgpt.args import EvalArgs, TrainArgs
from litgpt.data.base import get_sft_collate_fn
from litgpt.utils import load_checkpoint
from steps import Refused, Steps, labels_of, read_rows, report
from torch.utils.data import DataLoader

NAMES = {(576, 30): "SmolLM2-135M-Instruct"}
"""LitGPT knows models by their names: those of the bases here, by width and number of blocks."""

PROJECTIONS = ("query", "key", "value", "projection", "mlp")

CONVERT = """
import sys
from pathlib import Path
from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint
convert_hf_checkpoint(Path(sys.argv[1]), model_name=sys.argv[2])
"""


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train and report."""
    if job["method"] != "sft":
        raise Refused(f"LitGPT has no {job['method']}")
    if job["quantize"] != "none":
        raise Refused("LitGPT quantises with bitsandbytes 0.42, which needs a CUDA GPU")
    checkpoint = _convert(job)
    recipe = import_module(f"litgpt.finetune.{job['adapter']}")
    precision = "bf16-mixed" if job["adapter"] == "full" else "bf16-true"
    steps = Steps()
    fabric = L.Fabric(devices=1, precision=precision, loggers=_Log(steps))
    fabric.seed_everything(0)
    model = fabric.setup_module(_model(fabric, recipe, job, checkpoint))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = fabric.setup_optimizers(
        torch.optim.AdamW(trained, lr=job["learning_rate"], weight_decay=0.0, fused=True)
    )
    load_checkpoint(fabric, model, checkpoint / "lit_model.pth", strict=False)
    _fit(recipe, fabric, model, optimizer, (job, checkpoint, steps))
    return {"steps": steps.list, "settings": {"precision": precision, "clip": None}}


class _Log:
    """Stands in for a Lightning logger: LitGPT logs right after each optimizer step."""

    name = version = root_dir = log_dir = ""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Throughput figures come first and are passed over; the step comes with its loss."""
        if "iter_time" in metrics:
            self.steps.done()
            self.steps.lost(metrics["loss"])


def _convert(job: dict[str, Any]) -> Path:
    config = json.loads((Path(job["base"]) / "config.json").read_text(encoding="utf-8"))
    name = NAMES.get((config["hidden_size"], config["num_hidden_layers"]))
    if name is None:
        raise Refused("LitGPT knows models by name, and with_litgpt.py has none for this base")
    folder = Path(job["work"]) / "base"
    shutil.copytree(job["base"], folder)
    # In a process of its own, so that its memory is not counted as that of the training.
    subprocess.run([sys.executable, "-c", CONVERT, str(folder), name], check=True)
    return folder


def _model(fabric: L.Fabric, recipe: Any, job: dict[str, Any], checkpoint: Path) -> Any:
    settings = {}
    if job["adapter"] == "lora":
        settings = {f"lora_{name}": True for name in PROJECTIONS}
        settings |= {"lora_r": job["rank"], "lora_alpha": job["alpha"], "lora_dropout": 0.0}
    config = recipe.Config.from_file(checkpoint / "model_config.yaml", **settings)
    with fabric.init_module():
        model = recipe.GPT(config)
    if job["adapter"] == "lora":
        recipe.mark_only_lora_as_trainable(model)
    return model


def _fit(recipe: Any, fabric: L.Fabric, model: Any, optimizer: Any, rest: tuple) -> None:
    job, checkpoint, steps = rest
    rows = [
        {
            "input_ids": torch.tensor(row["input_ids"]),
            "labels": torch.tensor(labels_of(row)),
            "token_counts": {"raw": 0, "raw_plus_prompt_template": 0},
        }
        for row in read_rows(job)
    ]
    pad = get_sft_collate_fn()

    def counting(examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = pad(examples)
        tokens = sum(len(example["input_ids"]) for example in examples)
        trained = int((batch["labels"][:, 1:] != -100).sum())
        steps.saw(tokens, trained, batch["input_ids"].numel())
        return batch

    count = job["rows_per_step"]
    train, held = fabric.setup_dataloaders(
        DataLoader(rows, batch_size=count, collate_fn=counting),
        DataLoader(rows[:1], batch_size=1, collate_fn=pad),
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    if job["adapter"] == "full":
        parts = {"state": {**parts, "iter_num": 0, "step_count": 0}, "resume": False}
    recipe.fit(
        fabric=fabric,
        **parts,
        train_dataloader=train,
        val_dataloader=held,
        devices=1,
        checkpoint_dir=checkpoint,
        out_dir=Path(job["work"]) / "out",
        train=TrainArgs(
            global_batch_size=count,
            micro_batch_size=count,
            epochs=1,
            max_steps=job["steps"],
            log_interval=1,
            save_interval=None,
        ),
        eval=EvalArgs(interval=10**9, max_iters=1, max_new_tokens=1),
        data=None,
    )


if __name__ == "__main__":
    report(main)
