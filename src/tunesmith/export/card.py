"""The model card: README.md of an export, generated from what the run measured and nothing else.

The front matter is that of the hub (https://huggingface.co/docs/hub/model-cards). `base_model` is
left out where the base is no hub id: the hub refuses a card that names a path.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunesmith.adapters.base import own_format
from tunesmith.export.certificate import Certificate
from tunesmith.runs.report.usage import gives_of, loading
from tunesmith.runs.report.wording import count, figure, loss_unit, nats, num_bytes, percent, points

Record = dict[str, Any]

NAME = "README.md"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
KNOWN = {"starter": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
"""Hub id and licence of bases that have another name here."""

SETTINGS = (
    "method.name",
    "adapter.name",
    "adapter.rank",
    "adapter.alpha",
    "train.epochs",
    "train.steps",
    "train.learning_rate",
    "train.schedule",
    "train.warmup",
    "train.batch_rows",
    "train.batch_tokens",
    "train.accumulate",
    "train.optimizer",
    "train.precision",
    "train.seed",
    "data.max_tokens",
    "data.train_on",
    "model.quantize",
)
"""Keys of the recipe that the card shows, where they are set."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a card is about.

    Attributes:
        report: `report.json` of the run.
        recipe: The resolved recipe as plain data.
        to: `adapter`, `merged`, `gguf` or `ollama`; `model` for the whole model of a run.
        stored: How the weights are stored; empty where they are as trained.
        certificate: Of this export; None for the artefact of a run, whose report has it.
    """

    report: Record
    recipe: Record
    to: str
    stored: str = ""
    certificate: Certificate | None = None


def write(folder: Path, subject: Subject) -> None:
    """Write the card into the folder of an export, in place of one that a library left there."""
    (folder / NAME).write_text(text(folder, subject), encoding="utf-8")


def base_name(base_id: str) -> str:
    """The hub id of a base, or the name of its folder or file."""
    known = KNOWN.get(base_id, (base_id, ""))[0]
    return known if is_hub_id(known) else Path(known).name


def is_hub_id(name: str) -> bool:
    """Whether a base's name is one of the hub's, and no path."""
    return bool(HUB_ID.fullmatch(name)) and not Path(name).exists()


def licence(base_id: str) -> str:
    """The base's licence as its own card names it, in lower case; empty when it is not known."""
    if base_id in KNOWN:
        return KNOWN[base_id][1]
    readme = Path(base_id) / NAME
    if not readme.is_file():
        return ""
    found = re.match(r"---\n(.*?)\n---", readme.read_text(encoding="utf-8", errors="replace"), re.S)
    try:
        front = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return ""
    named = front.get("license") if isinstance(front, dict) else None
    return named.lower() if isinstance(named, str) else ""


def text(folder: Path, subject: Subject) -> str:
    """The card of the export in `folder`."""
    report = subject.report
    front = yaml.safe_dump(_front(subject), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{front}---\n",
        f"# {report['name']}\n",
        f"{_kind(subject)}, fine-tuned from {_code(base_name(report['base']['id']))} with "
        "Tunesmith. Every figure below was measured by the run that made it.\n",
        _section("Base", _table(_base(report))),
        _section("Data", _data(report["data"])),
        _section("Recipe", _table(_settings(subject.recipe))),
        _section("Scores", _scores(report)),
        _section("Forgetting", _forgetting(report["forgetting"])),
        _section("This export", _table(_export(folder, subject))),
        _section("Limits", "\n".join(f"- {limit}" for limit in _limits(report))),
        _section("Use", _use(folder, subject)),
    ]
    return "\n".join(parts)


def _front(subject: Subject) -> Record:
    base = KNOWN.get(subject.report["base"]["id"], (subject.report["base"]["id"], ""))[0]
    named = licence(subject.report["base"]["id"])
    library = {"adapter": "peft", "gguf": "gguf", "ollama": "gguf"}.get(subject.to, "transformers")
    tags = ["tunesmith", subject.recipe["method"]["name"], subject.recipe["adapter"]["name"]]
    return {
        **({"base_model": base} if is_hub_id(base) else {}),
        "library_name": library,
        "pipeline_tag": "text-generation",
        **({"license": named} if named else {}),
        "tags": list(dict.fromkeys(tags)),
    }


def _kind(subject: Subject) -> str:
    named = {"adapter": "A PEFT adapter", "gguf": "A GGUF file", "ollama": "A model for Ollama"}
    stored = f" ({subject.stored})" if subject.stored else ""
    return named.get(subject.to, "A model") + stored


def _base(report: Record) -> Iterator[tuple[str, str]]:
    base = report["base"]
    yield "base", _code(base_name(base["id"]))
    if base.get("revision"):
        yield "revision", _code(base["revision"])
    yield "SHA-256", _code(base["sha256"])
    yield "parameters", count(base["parameters"])
    yield "licence of the base", licence(base["id"]) or "not known to the run"


def _data(data: Record) -> str:
    rows = data.get("rows_by_file") or {}
    files = _table(
        (
            (_code(Path(path).name), count(rows.get(path)), _code(digest))
            for path, digest in data["sha256"].items()
        ),
        ("file", "rows", "SHA-256"),
    )
    changed = [f"{count(data[key])} {key}" for key in ("dropped", "truncated", "skipped")]
    return (
        f"{files}\n\n{count(data['rows_train'])} rows were trained on ({count(data['tokens'])} "
        f"tokens, of which {count(data['tokens_trained'])} carry loss) and "
        f"{count(data['rows_eval'])} held out; {', '.join(changed)}."
    )


def _settings(recipe: Record) -> Iterator[tuple[str, str]]:
    for key in SETTINGS:
        section, _, name = key.partition(".")
        value = (recipe.get(section) or {}).get(name)
        if value is not None:
            yield _code(key), _code(str(value))


def _scores(report: Record) -> str:
    rows = [
        (
            task["name"],
            count(task["n"]),
            points(task["before"]),
            points(task["after"]),
            f"{points(task['gain'], signed=True)} ({_interval(task['interval'], points)})",
        )
        for task in report["tasks"]
    ]
    if loss := report["eval_loss"]:
        change = loss["after"] - loss["before"]
        interval = _interval(loss["interval"], nats)
        told = f"{nats(change, signed=True)} ({interval})"
        rows.append(
            (
                f"held-out loss, {loss_unit(loss)}",
                "",
                nats(loss["before"]),
                nats(loss["after"]),
                told,
            )
        )
    if not rows:
        return "Nothing was measured."
    return _table(rows, ("measure", "n", "before", "after", "change (95 % interval)"))


def _forgetting(found: Record | None) -> str:
    if not found:
        return "Not measured."
    budget = "none was set" if found["budget"] is None else f"{figure(found['budget'])} nats"
    return (
        f"On general prompts, the mean KL from the base is {figure(found['kl'])} nats per token "
        f"({_interval(found['kl_interval'], figure)}; budget: {budget}). The loss of the base's "
        f"own answers went from {nats(found['loss_before'])} to {nats(found['loss_after'])}."
    )


def _export(folder: Path, subject: Subject) -> Iterator[tuple[str, str]]:
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.gguf")]):
        yield "file", f"{_code(path.name)}, {num_bytes(path.stat().st_size)}"
    proof = subject.certificate
    if proof is None:
        found = subject.report["certificate"]
        yield (
            "logits, largest difference from the trained model",
            figure(found["max_logit_difference"]),
        )
        yield "equal greedy tokens", percent(found["equal_greedy_tokens"])
        return
    yield "read back by", proof.reader
    yield "mean KL from the trained model", f"{figure(proof.mean_kl)} nats per token"
    yield "worst KL of a position", f"{figure(proof.worst_kl)} nats"
    yield "logits, largest difference", figure(proof.max_logit_difference)
    yield "equal greedy tokens", percent(proof.equal_greedy_tokens)
    if loss := proof.heldout_loss:
        yield (
            f"loss on {count(loss.rows)} held-out rows, as trained and exported",
            f"{nats(loss.trained)}, {nats(loss.exported)}",
        )


def _limits(report: Record) -> Iterator[str]:
    if not report["tasks"]:
        yield "No task was given: nobody measured whether the answers are right."
    if not report["eval_loss"]:
        yield "There were no held-out rows."
    if not report["forgetting"]:
        yield "What the model forgot was not measured."
    else:
        yield "Forgetting was measured on one set of general prompts, not on public benchmarks."
    yield "Safety, bias and languages other than those of the data were not measured."
    if (report["base"].get("quantize") or "none") != "none":
        yield f"It was trained and measured over a base quantised to {report['base']['quantize']}."
    for warning in report["warnings"][:5]:
        yield f"The run warned: {' '.join(warning.split())}"


def _use(folder: Path, subject: Subject) -> str:
    if subject.to == "ollama":
        return _fenced("sh", f"ollama create {subject.report['name']} -f Modelfile")
    if subject.to == "gguf":
        file = next(iter(sorted(folder.glob("*.gguf")))).name
        return _fenced("sh", f"llama-cli -m {file} -cnv")
    gives = gives_of(subject.report)
    if gives != "logits":
        _, code = loading(gives, subject.to != "adapter", folder)
        return _fenced("python", code.format(path='"."').rstrip())
    if subject.to == "adapter" and own_format(folder):
        return _fenced("sh", f"tunesmith chat {subject.report['name']}  # the run folder")
    loader = "AutoPeftModelForCausalLM" if subject.to == "adapter" else "AutoModelForCausalLM"
    library = "peft" if subject.to == "adapter" else "transformers"
    first = "transformers import AutoTokenizer"
    return _fenced(
        "python",
        f'from {library} import {loader}\nfrom {first}\n\nfolder = "."\n'
        f"model = {loader}.from_pretrained(folder)\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
    )


def _interval(pair: Iterable[float], wording: Any) -> str:
    low, high = pair
    return f"{wording(low)} to {wording(high)}"


def _table(rows: Iterable[tuple[str, ...]], head: tuple[str, ...] = ("", "")) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: str) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _code(value: str) -> str:
    return f"`{value.replace('`', '')}`"


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}\n"


def _fenced(language: str, body: str) -> str:
    return f"```{language}\n{body}\n```"
