"""What a base looks like, read from its files without loading it."""

from dataclasses import dataclass

from gguf import GGUFReader

from tunesmith.errors import ModelError
from tunesmith.models.refuse import read_json
from tunesmith.models.resolve import locate


@dataclass(frozen=True, slots=True)
class Shape:
    """Type of a model as transformers names it, and width of its residual stream."""

    model_type: str
    width: int


def shape_of(base: str, revision: str | None) -> Shape:
    """The shape of a base by its name in the recipe; brings it here if it is on the hub.

    Raises:
        ModelError: There is no such base, or its files do not say.
        MachineError: The disk or the network does not give it.
    """
    folder, gguf, _ = locate(base, revision)
    if gguf is not None:
        fields = GGUFReader(folder / gguf).fields
        kind = fields["general.architecture"].contents()
        width = fields.get(f"{kind}.embedding_length")
        found = {"model_type": kind, "hidden_size": width and width.contents()}
    else:
        config = read_json(folder / "config.json")
        inner = config.get("text_config") or {}
        found = {"hidden_size": config.get("n_embd") or config.get("d_model"), **config, **inner}
    kind, width = found.get("model_type"), found.get("hidden_size")
    if not isinstance(kind, str) or not isinstance(width, int) or width < 1:
        raise ModelError(
            str(folder),
            got="a base that does not say its type and width",
            expected="model_type and hidden_size",
            hint="give a number as train.learning_rate",
        )
    return Shape(kind, width)
