"""torchtune: its single-device recipes, one row in a pass and no padding.

Weights are bf16 with LoRA. Trained whole they are fp32: it has no mixed precision, and in bf16 most
updates are lost in rounding.

torchtune has no builder for SmolLM2; its Llama 3 is the same computation, apart from the tied head:
the head is a copy of the embedding, which changes nothing with LoRA, and is trained apart with full
fine-tuning.
"""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from sysconfig import get_path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from steps import Refused, Steps, labels_of, read_rows, report
from torch.utils.data import DataLoader, SequentialSampler
from torchtune import training
from torchtune.data import padded_collate_sft
from torchtune.models.convert_weights import hf_to_tune

RECIPES = {
    "lora": ("lora_finetune_single_device", "LoRAFinetuneRecipeSingleDevice"),
    "full": ("full_finetune_single_device", "FullFinetuneRecipeSingleDevice"),
}

NF4_WEIGHTS = 64 * 256
"""A block of 64 weights has a scale, and 256 scales are quantised together."""


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train and report."""
    if job["method"] != "sft":
        raise Refused("torchtune's DPO recipe has no way to be given tokens")
    if job["quantize"] == "int8":
        raise Refused("torchtune has no 8-bit base")
    shape = json.loads((Path(job["base"]) / "config.json").read_text(encoding="utf-8"))
    if shape["model_type"] != "llama":
        raise Refused("only Llama-shaped bases are written into with_torchtune.py")
    if job["quantize"] == "nf4" and _smallest_linear(shape) % NF4_WEIGHTS:
        raise Refused(f"torchao's NF4 wants a multiple of {NF4_WEIGHTS} weights in every layer")
    steps = Steps()
    settings = _settings(job, shape)
    config = OmegaConf.create(settings)
    recipe = _recipe(job, shape, steps)(config)
    recipe.setup(config)
    recipe._metric_logger = _Log(steps)
    recipe.train()
    shown = {key: settings[key] for key in ("dtype", "batch_size", "gradient_accumulation_steps")}
    return {"steps": steps.list, "settings": shown}


class _Log:
    """Stands in for a metric logger: torchtune logs right after each optimizer step."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def log_dict(self, payload: dict[str, Any], step: int) -> None:
        """One optimizer step."""
        self.steps.done()
        self.steps.lost(float(payload["loss"]))


class _Sampler(SequentialSampler):
    """In the order of the rows, with the method that the recipe calls."""

    def set_epoch(self, epoch: int) -> None:
        """Nothing changes from one epoch to the next."""


def _recipe(job: dict[str, Any], shape: dict[str, Any], steps: Steps) -> type:
    """The recipe's class, given our rows and the base, and not saving at the end."""
    file, name = RECIPES[job["adapter"]]
    spec = spec_from_file_location(file, Path(get_path("purelib")) / "recipes" / f"{file}.py")
    module = module_from_spec(spec)
    sys.modules[file] = module
    spec.loader.exec_module(module)

    class Recipe(getattr(module, name)):
        def load_checkpoint(self, cfg_checkpointer: Any) -> dict[str, Any]:
            return {training.MODEL_KEY: _weights(job, shape)}

        def _setup_data(self, **kwargs: Any) -> DataLoader:
            rows = [{"tokens": r["input_ids"], "labels": labels_of(r)} for r in read_rows(job)]
            return DataLoader(
                rows, batch_size=1, sampler=_Sampler(rows), collate_fn=padded_collate_sft
            )

        def _setup_lr_scheduler(self, **kwargs: Any) -> Any:
            return torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: 1.0)

        def _loss_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            count = batch["tokens"].numel()
            steps.saw(count, int((batch["labels"][:, 1:] != -100).sum()), count)
            return super()._loss_step(batch)

        def save_checkpoint(self, epoch: int) -> None:
            """Nothing is kept."""

    return Recipe


def _smallest_linear(shape: dict[str, Any]) -> int:
    """Weights of the projection of the keys."""
    head = shape["hidden_size"] // shape["num_attention_heads"]
    return shape["num_key_value_heads"] * head * shape["hidden_size"]


def _weights(job: dict[str, Any], shape: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The base in torchtune's names, with a head of its own."""
    weights = load_file(Path(job["base"]) / "model.safetensors")
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    return hf_to_tune(
        weights,
        num_heads=shape["num_attention_heads"],
        num_kv_heads=shape["num_key_value_heads"],
        dim=shape["hidden_size"],
        head_dim=shape.get("head_dim"),
    )


def _settings(job: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    rope = shape.get("rope_parameters") or shape
    model = {
        "vocab_size": shape["vocab_size"],
        "num_layers": shape["num_hidden_layers"],
        "num_heads": shape["num_attention_heads"],
        "num_kv_heads": shape["num_key_value_heads"],
        "embed_dim": shape["hidden_size"],
        "intermediate_dim": shape["intermediate_size"],
        "norm_eps": shape["rms_norm_eps"],
        "rope_base": int(rope["rope_theta"]),
        "max_seq_len": job["max_tokens"],
    }
    if job["adapter"] == "lora":
        model |= {
            "_component_": "torchtune.models.llama3._component_builders.lora_llama3",
            "lora_attn_modules": ["q_proj", "k_proj", "v_proj", "output_proj"],
            "apply_lora_to_mlp": True,
            "lora_rank": job["rank"],
            "lora_alpha": job["alpha"],
            "lora_dropout": 0.0,
            "quantize_base": job["quantize"] == "nf4",
        }
    else:
        model["_component_"] = "torchtune.models.llama3._component_builders.llama3"
    return {
        "model": model,
        "tokenizer": {"_component_": "types.SimpleNamespace", "pad_id": 0},
        "checkpointer": {"model_type": "LLAMA3"},
        "dataset": {},
        "optimizer": {
            "_component_": "torch.optim.AdamW",
            "lr": job["learning_rate"],
            "weight_decay": 0.0,
            "fused": True,
        },
        "lr_scheduler": {},
        "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
        "metric_logger": {
            "_component_": "torchtune.training.metric_logging.DiskLogger",
            "log_dir": f"{job['work']}/log",
        },
        "output_dir": job["work"],
        "resume_from_checkpoint": False,
        "shuffle": False,
        "batch_size": 1,
        "gradient_accumulation_steps": job["rows_per_step"],
        "epochs": 1,
        "max_steps_per_epoch": job["steps"],
        "clip_grad_norm": 1.0,
        "optimizer_in_bwd": False,
        "compile": False,
        "seed": 0,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "dtype": "fp32" if job["adapter"] == "full" else "bf16",
        "log_every_n_steps": 1,
    }


if __name__ == "__main__":
    report(main)
