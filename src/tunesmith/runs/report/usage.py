"""How to use what a run left: commands and a few lines of Python."""

from dataclasses import dataclass
from json import dumps, loads
from pathlib import Path

from tunesmith.runs.report.material import Material, Record
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

ADAPTER_SCORES_CODE = """\
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

base = PeftConfig.from_pretrained({path}).base_model_name_or_path
config = AutoConfig.from_pretrained({path})
model = AutoModelForSequenceClassification.from_pretrained(base, config=config)
model = PeftModel.from_pretrained(model, {path})
tokenizer = AutoTokenizer.from_pretrained({path})
"""
"""The labels and the padding token stand in the folder of the adapter; its base has none."""

MODEL_SCORES_CODE = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained({path})
tokenizer = AutoTokenizer.from_pretrained({path})
"""

STATES_CODE = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer({path})
vectors = model.encode(["a text", "another one"])
"""

ONE_AT_A_TIME = """\
# Give it one text at a time: behind virtual tokens padding is not seen.
"""
"""PEFT hands transformers embeddings, in which it cannot tell padding from tokens."""

VECTORS_CODE = """\
from tunesmith.api.reader import open_reader

vectors = open_reader({path}).vectors(["a text", "another one"])
"""
"""For virtual tokens, which sentence-transformers does not load."""

WHOLE_MODELS = frozenset({"full", "freeze"})
"""Adapters whose artefact is a whole model, not a PEFT adapter."""
VIRTUAL = "num_virtual_tokens"
"""Key of adapter_config.json that adapters of virtual tokens have, which cannot be merged."""


def _says(folder: Path, key: str) -> bool:
    """Whether a key stands in the configuration of the adapter in a folder, if it is one."""
    path = folder / "adapter_config.json"
    return path.is_file() and key in loads(path.read_text(encoding="utf-8"))


def uses(material: Material) -> list[Use]:
    """What can be done with the run, most usual first; nothing when it has no artefact."""
    artefact = material.report.get("artefact")
    if not artefact:
        return []
    path = dumps(str(material.path / artefact["path"]), ensure_ascii=False)
    place = material.path / artefact["path"]
    if _says(place, "tunesmith"):  # A format of our own, which no other program opens.
        return [Use("Talk to it", command("chat", material))]
    whole = (material.report.get("adapter") or {}).get("name") in WHOLE_MODELS
    gives = gives_of(material.report)
    library, code = loading(gives, whole, place)
    first = {
        "logits": [Use("Talk to it", command("chat", material))],
        "scores": [Use("Let it read a text", command("classify", material, '"some text"'))],
    }
    merging = command("export", material, "--to merged")
    merged = [Use("Merge it into one model for other programs", merging)]
    return [
        *first.get(gives, []),
        *([] if _says(place, VIRTUAL) else merged),
        Use(f"Load it with {library}", code.format(path=path), "python"),
    ]


def gives_of(report: Record) -> str:
    """What the model of a run answers with: `logits` of tokens, `scores`, or `states`."""
    return (report.get("method") or {}).get("gives", "logits")


def loading(gives: str, whole: bool, folder: Path) -> tuple[str, str]:
    """The library that loads an artefact, and lines of Python with `{path}` in them.

    Args:
        gives: What the model answers with.
        whole: Whether it is a whole model, and no adapter.
        folder: Where it lies.
    """
    behind = _says(folder, VIRTUAL)
    if gives == "states" and behind:
        return "Tunesmith", VECTORS_CODE
    if gives == "states":
        return "sentence-transformers", STATES_CODE
    codes = {
        ("logits", True): MODEL_CODE,
        ("logits", False): ADAPTER_CODE,
        ("scores", True): MODEL_SCORES_CODE,
        ("scores", False): ADAPTER_SCORES_CODE,
    }
    advice = ONE_AT_A_TIME if behind and gives == "scores" else ""
    return "Transformers" if whole else "PEFT", codes[gives, whole] + advice
