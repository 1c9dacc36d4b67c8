"""Artefacts that are not what was trained: all refused, by name; sound ones never.

100 seeded mutations of an adapter and of a whole model; 1,000 of each with TUNESMITH_FAULTS=all.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunesmith.adapters import full, lora
from tunesmith.adapters.base import Saved
from tunesmith.errors import RunError
from tunesmith.export.artefact import write
from tunesmith.export.gate import difference, require_sound
from tunesmith.models.base import Base
from tunesmith.models.load import load
from tunesmith.models.resolve import resolve
from tunesmith.testing import architectures
from tunesmith.testing.tiny import tiny_base

NUM_MUTATIONS = 1000 if os.environ.get("TUNESMITH_FAULTS") == "all" else 100
TEXTS = ["say xxx", "Zürich 日本 🙂"]


@dataclass
class Written:
    """An artefact on the disk, and what it should be; others to be mistaken for it."""

    folder: Path
    saved: Saved
    base: Base
    untrained: Path
    stale: Path


def _written(kind, place: Path) -> Written:
    base = load(resolve(str(tiny_base(place / "base")), None), torch.float32)
    attached = kind.attach(base.model, kind.Config(), seed=0)
    paths = {name: place / name for name in ("untrained", "stale", kind.FOLDER)}
    for seed, (name, folder) in enumerate(paths.items()):
        if name != "untrained":
            torch.manual_seed(seed)
            with torch.no_grad():
                for parameter in attached.trained.values():
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        write(kind, attached, base, folder)
    return Written(
        paths[kind.FOLDER], kind.saved(attached), base, paths["untrained"], paths["stale"]
    )


@pytest.fixture(scope="module", params=[lora, full], ids=["lora", "full"])
def written(request, tmp_path_factory) -> Written:
    return _written(request.param, tmp_path_factory.mktemp("artefact"))


def check(written: Written, folder: Path):
    require_sound(folder, written.saved, written.base.tokenizer, TEXTS)


@dataclass
class Mutator:
    """Damages a copy of an artefact; says what an error must name."""

    folder: Path
    written: Written
    rng: random.Random

    @property
    def weights(self) -> Path:
        return next(self.folder.glob("*.safetensors"))

    def tensors(self, change: Callable[[dict[str, Tensor], str], str | None]) -> str:
        tensors = load_file(self.weights)
        chosen = self.rng.choice(sorted(tensors))
        named = change(tensors, chosen)
        save_file({n: t.contiguous() for n, t in tensors.items()}, self.weights, {"format": "pt"})
        return named or chosen

    def one_number(self, value: float) -> str:
        def change(tensors, name):
            tensors[name].view(-1)[self.rng.randrange(tensors[name].numel())] = value

        return self.tensors(change)

    def nan(self):
        return self.one_number(float("nan"))

    def infinity(self):
        return self.one_number(float("-inf"))

    def another_number(self):
        return self.one_number(0.12345)

    def all_nan(self):
        def change(tensors, name):
            tensors[name].fill_(float("nan"))

        return self.tensors(change)

    def zeros(self):
        def change(tensors, name):
            tensors[name].zero_()

        return self.tensors(change)

    def missing_tensor(self):
        def change(tensors, name):
            del tensors[name]

        return self.tensors(change)

    def renamed_tensor(self):
        def change(tensors, name):
            tensors[f"{name}.x"] = tensors.pop(name)

        return self.tensors(change)

    def superfluous_tensor(self):
        def change(tensors, name):
            tensors["extra"] = torch.zeros(2)
            return "extra"

        return self.tensors(change)

    def no_tensors(self):
        return self.tensors(lambda tensors, name: tensors.clear() or "tensor")

    def wrong_shape(self):
        def change(tensors, name):
            tensors[name] = tensors[name][..., :-1].clone()

        return self.tensors(change)

    def no_numbers(self):
        def change(tensors, name):
            tensors[name] = torch.zeros(0)

        return self.tensors(change)

    def wrong_type(self):
        def change(tensors, name):
            tensors[name] = tensors[name].bfloat16()

        return self.tensors(change)

    def swapped(self):
        def change(tensors, name):
            like = [n for n in sorted(tensors) if tensors[n].shape == tensors[name].shape]
            other = self.rng.choice([n for n in like if n != name] or [name])
            if other == name:
                tensors[name] = tensors[name].flip(0)
            tensors[name], tensors[other] = tensors[other].clone(), tensors[name].clone()
            return min(name, other)

        return self.tensors(change)

    def one_bit(self):
        content = bytearray(self.weights.read_bytes())
        start = 8 + int.from_bytes(content[:8], "little")
        content[self.rng.randrange(start, len(content))] ^= 1 << self.rng.randrange(8)
        self.weights.write_bytes(content)
        return str(self.folder)

    def cut_off(self):
        size = self.weights.stat().st_size
        os.truncate(self.weights, self.rng.choice([0, 7, 40, size // 2, size - 1]))
        return self.weights.name

    def no_weights(self):
        self.weights.unlink()
        return "no such tensor"

    def stale(self):
        shutil.copy(next(self.written.stale.glob("*.safetensors")), self.weights)
        return "other numbers"

    def untrained(self):
        shutil.copy(next(self.written.untrained.glob("*.safetensors")), self.weights)
        return "in memory" if "model" in self.weights.name else "zeros"

    def other_setting(self):
        path = self.folder / self.written.saved.config_file
        config = json.loads(path.read_text())
        key = self.rng.choice(sorted(config))
        config[key] = "something else"
        path.write_text(json.dumps(config))
        return key

    def no_config(self):
        (self.folder / self.written.saved.config_file).unlink()
        return self.written.saved.config_file

    def no_tokenizer(self):
        (self.folder / "tokenizer.json").unlink()
        return "tokenizer"

    def other_template(self):
        path = self.folder / "chat_template.jinja"
        path.write_text(path.read_text().replace("im_end", "im_stop"))
        return "another chat template"

    def no_template(self):
        (self.folder / "chat_template.jinja").unlink()
        return "no chat template"

    def other_vocabulary(self):
        path = self.folder / "tokenizer.json"
        data = json.loads(path.read_text())
        vocabulary = data["model"]["vocab"]
        vocabulary["x"], vocabulary["y"] = vocabulary["y"], vocabulary["x"]
        path.write_text(json.dumps(data))
        return "other ids"


KINDS = sorted(
    name
    for name, member in vars(Mutator).items()
    if callable(member) and not name.startswith("_") and name not in ("tensors", "one_number")
)


def test_mutated_artefacts_are_all_refused_and_named(written, tmp_path):
    refused = 0
    for seed in range(NUM_MUTATIONS):
        kind = KINDS[seed % len(KINDS)]
        folder = tmp_path / f"{seed}"
        shutil.copytree(written.folder, folder)
        named = getattr(Mutator(folder, written, random.Random(seed)), kind)()
        with pytest.raises(RunError) as caught:
            check(written, folder)
        assert named in str(caught.value), (kind, seed, str(caught.value))
        assert str(folder) in str(caught.value), (kind, seed)
        shutil.rmtree(folder)
        refused += 1
    assert refused == NUM_MUTATIONS
    print(f"{refused} of {NUM_MUTATIONS} mutated artefacts refused")


def test_a_sound_artefact_is_let_through(written):
    for _ in range(3):
        check(written, written.folder)


ARCHITECTURES = [
    *((lora, name) for name in ("llama", "qwen3", "gemma3")),
    # Tied heads, other names of layers, experts that are held together and saved apart.
    *((full, name) for name in ("llama", "gemma3", "gpt2", "deepseek-v3", "qwen3-next")),
]


@pytest.mark.parametrize(("kind", "name"), ARCHITECTURES)
def test_sound_ones_of_every_architecture_are_let_through(kind, name, tmp_path):
    model = architectures.build(name)
    tiny_base(tmp_path / "base")
    model.save_pretrained(tmp_path / "base")
    base = load(resolve(str(tmp_path / "base"), None), torch.float32)
    attached = kind.attach(base.model, kind.Config(), seed=0)
    folder = tmp_path / kind.FOLDER
    write(kind, attached, base, folder)
    require_sound(folder, kind.saved(attached), base.tokenizer, TEXTS)


def test_the_sign_of_a_zero_and_a_scalar_are_seen():
    assert difference(torch.tensor(0.0), torch.tensor(0.0)) == ""
    assert "zeros" in difference(torch.tensor(-0.0), torch.tensor(0.0))
    assert difference(torch.tensor([1]), torch.tensor([1])) == ""
