"""The forms that a trained model can be exported in, by name."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tunesmith.adapters.base import own_format
from tunesmith.errors import CommandError
from tunesmith.export import gguf_writer, ollama
from tunesmith.export.gguf_names import family_of
from tunesmith.export.gguf_vocabulary import vocabulary
from tunesmith.export.ollama import Parity
from tunesmith.export.reload import Holding, loader_of
from tunesmith.export.ship import Form
from tunesmith.export.tolerance import STORED, as_trained
from tunesmith.export.trained import Trained
from tunesmith.models.fingerprint import OTHER_FILES
from tunesmith.models.heads import copy_beside
from tunesmith.models.load import stop_ids

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
MODEL_FILES = frozenset({"config.json", "generation_config.json", "model.safetensors.index.json"})
"""Of `OTHER_FILES`, those that belong to the weights; the others are the tokenizer's."""

TYPES = {
    "adapter": (),
    "merged": tuple(DTYPES),
    "gguf": tuple(gguf_writer.TYPES),
    "ollama": tuple(gguf_writer.TYPES),
}
"""For each form, how its weights can be stored."""
DEFAULT_TYPE = {"adapter": "", "merged": "f32", "gguf": "f16", "ollama": "q8_0"}
"""f32 keeps what was trained; f16 is what other programs make their smaller types from; 8 bits are
what Ollama's own models come in at most."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """What a form is made from.

    Attributes:
        folder: `adapter/` or `model/` of the run.
        about: For the metadata of GGUF.
    """

    folder: Path
    about: gguf_writer.About

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter, and not a whole model."""
        return (self.folder / "adapter_config.json").is_file()

    @property
    def stands_alone(self) -> bool:
        """Whether it is an adapter that is no change of weights, so that nothing can be merged."""
        if not self.is_adapter:
            return False
        config = json.loads((self.folder / "adapter_config.json").read_text(encoding="utf-8"))
        return bool(own_format(self.folder)) or "num_virtual_tokens" in config

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of training, as its file says."""
        return PreTrainedTokenizerFast.from_pretrained(self.folder)


def check(to: str, stored: str | None, is_adapter: bool, stands_alone: bool = False) -> str:
    """How the weights will be stored.

    Args:
        to: The form's name.
        stored: How the user wants them stored; None for the usual way.
        is_adapter: Whether the artefact is an adapter.
        stands_alone: Whether that adapter is no change of weights.

    Raises:
        CommandError: There is no such form, or not of this artefact, or not stored like this.
    """
    if to not in TYPES:
        raise CommandError("--to", got=repr(to), expected=", ".join(TYPES))
    if to != "adapter" and stands_alone:
        raise CommandError(
            "--to",
            got=f"{to}, of an adapter that is no change of the base's weights",
            expected="adapter: it cannot be merged",
        )
    if to == "adapter" and not is_adapter:
        raise CommandError(
            "--to", got="adapter", expected="merged, gguf or ollama, for a full fine-tuning"
        )
    if stored is not None and stored not in TYPES[to]:
        expected = ", ".join(TYPES[to]) or "none: an adapter is copied as it is"
        raise CommandError("--type", got=f"{stored!r} with --to {to}", expected=expected)
    return stored or DEFAULT_TYPE[to]


def require_writes(to: str, artefact: Artefact) -> None:
    """Refuse a form for programs that write text, where the model gives scores or states.

    Raises:
        CommandError: GGUF or Ollama of such a model.
    """
    if to in ("gguf", "ollama") and loader_of(artefact.folder) is not AutoModelForCausalLM:
        raise CommandError(
            "--to",
            got=f"{to}, for a model that ends in no language-model head",
            expected="adapter or merged, which transformers reads",
        )


def form(to: str, stored: str, artefact: Artefact, quantized: Holding | None) -> Form:
    """The form by its name; `stored` as `check` gave it."""
    if to == "adapter":
        return _adapter(artefact, quantized)
    if to == "merged":
        return _merged(stored, artefact)
    return _gguf(stored, artefact, with_modelfile=to == "ollama")


def _adapter(artefact: Artefact, quantized: Holding | None) -> Form:
    def write(trained: Trained, folder: Path) -> None:
        shutil.copytree(artefact.folder, folder, dirs_exist_ok=True)

    held = quantized or Holding(torch.float32)
    return Form(write, as_trained(held.dtype), held, True)


def _merged(stored: str, artefact: Artefact) -> Form:
    def write(trained: Trained, folder: Path) -> None:
        trained.merged().to(DTYPES[stored]).save_pretrained(folder)
        copy_tokenizer(artefact.folder, folder)
        copy_beside(artefact.folder, folder)

    return Form(write, STORED[stored])


def _gguf(stored: str, artefact: Artefact, with_modelfile: bool) -> Form:
    def write(trained: Trained, folder: Path) -> Parity | None:
        tokenizer = artefact.tokenizer()
        stops = stop_ids(trained.model, tokenizer)
        # What can be refused comes first: the weights take the time.
        family_of(trained.model.config)
        num_rows = trained.model.get_input_embeddings().weight.shape[0]
        words = vocabulary(tokenizer, stops, num_rows)
        name, parity = f"{artefact.about.name}-{stored}.gguf", None
        if with_modelfile:
            written, parity = ollama.modelfile(
                tokenizer, stops, name, words.adds_bos, artefact.about.licence
            )
            (folder / "Modelfile").write_text(written, encoding="utf-8")
        gguf_writer.write(trained.merged(), words, folder / name, stored, artefact.about)
        return parity

    return Form(write, STORED[stored])


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer's files byte for byte: loading and saving may change them."""
    for name in OTHER_FILES:
        if name not in MODEL_FILES and (source / name).is_file():
            shutil.copyfile(source / name, target / name)
