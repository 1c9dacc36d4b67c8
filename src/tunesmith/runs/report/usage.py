"""How to use what a run left: commands and a few lines of Python."""

from dataclasses import dataclass
from json import dumps, loads
from pathlib import Path

from tunesmith.runs.report.material import Material
from tunesmith.runs.report.verdict import command


@dataclass(frozen=True, slots=True)
class Use:
    """One thing that can be done with the run.

    Attributes:
        purpose: A heading for people.
        code: What to type.
        language: `sh` or `python`.
    """

    purpose: str
    code: str
    language: str = "sh"


ADAPTER_CODE = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained({path})
base = model.peft_config["default"].base_model_name_or_path
tokenizer = AutoTokenizer.from_pretrained(base)
"""

MODEL_CODE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({path})
tokenizer = AutoTokenizer.from_pretrained({path})
"""

WHOLE_MODELS = frozenset({"full", "freeze"})
"""Adapters whose artefact is a whole model, not a PEFT adapter."""


def _is_ours(folder: Path) -> bool:
    """Whether an adapter is in a format of Tunesmith's own, which no other program opens."""
    path = folder / "adapter_config.json"
    return path.is_file() and "tunesmith" in loads(path.read_text(encoding="utf-8"))


def uses(material: Material) -> list[Use]:
    """What can be done with the run, most usual first; nothing when it has no artefact."""
    artefact = material.report.get("artefact")
    if not artefact:
        return []
    path = dumps(str(material.path / artefact["path"]), ensure_ascii=False)
    place = material.path / artefact["path"]
    if _is_ours(place):
        return [Use("Talk to it", command("chat", material))]
    whole = (material.report.get("adapter") or {}).get("name") in WHOLE_MODELS
    return [
        Use("Talk to it", command("chat", material)),
        Use(
            "Merge it into one model for other programs", command("export", material, "--to merged")
        ),
        Use(
            "Load it with Transformers" if whole else "Load it with PEFT",
            (MODEL_CODE if whole else ADAPTER_CODE).format(path=path),
            "python",
        ),
    ]
