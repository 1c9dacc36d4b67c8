"""Keys of a recipe that do not go together."""

from tunesmith.adapters import base as adapters
from tunesmith.api.resolve import device
from tunesmith.errors import RecipeError
from tunesmith.recipe import Recipe


def require_quantizable(recipe: Recipe) -> None:
    """Refuse quantised weights that would have to be trained, or multiplied where nothing can.

    Raises:
        RecipeError: Naming what asks for plain weights.
    """
    kind, adapter = recipe.model.quantize, recipe.adapter
    if kind != "none" and adapters.needs_plain_base(adapter):
        does = "changes" if adapters.changes_base(adapter) else "computes with"
        does = "trains" if adapters.load(adapter.name).TRAINS_BASE else does
        raise RecipeError(
            "model.quantize",
            got=f"{kind} with adapter.name: {adapter.name}, which {does} the base's own weights",
            expected="none",
            hint="quantised weights stay as they are; train beside them with adapter.name: lora",
        )
    if kind == "int8" and device().type != "cpu":
        raise RecipeError(
            "model.quantize",
            got=f"int8 on {device().type}",
            expected="none or nf4: the products of int8 are written for processors",
        )


def require_no_writing(recipe: Recipe) -> None:
    """Refuse what needs a model that writes, where the method trains another head.

    Raises:
        RecipeError: Naming the key.
    """
    name = recipe.method.name
    if recipe.evaluate.tasks:
        raise RecipeError(
            "evaluate.tasks",
            got=f"a task with method.name: {name}, which trains no model that writes",
            expected="none",
            hint="rows in data.eval are measured by what the method is for",
        )
    if recipe.train.kl_to_base is not None:
        raise RecipeError(
            "train.kl_to_base",
            got=f"{recipe.train.kl_to_base:g} with method.name: {name}, which trains no token",
            expected="none: the KL is taken at trained tokens",
            hint="evaluate.forgetting_budget holds a run to a KL that is measured",
        )


def require_rows(recipe: Recipe) -> None:
    """Refuse steps counted in tokens, where the model draws the answers itself.

    Raises:
        RecipeError: Naming the key.
    """
    if recipe.train.batch_tokens is not None:
        raise RecipeError(
            "train.batch_tokens",
            got=f"{recipe.train.batch_tokens} with method.name: {recipe.method.name}",
            expected="train.batch_rows: how many prompts are answered, since none knows how long",
        )
