"""Say what a recipe would do and whether it fits; trains nothing."""

from dataclasses import asdict

from tunesmith.cli.output import Json, Overrides, Recipe, print_json, print_rich
from tunesmith.models.section import ModelSection


def run(recipe: Recipe, overrides: Overrides = None, json: Json = False) -> None:
    """Check recipe, base and rows, run one step on the worst batch, and tell what would happen."""
    from tunesmith.api.plan import plan
    from tunesmith.cli.show_plan import PlanView

    found = plan(recipe, overrides or ())
    if json:
        print_json({**asdict(found), "recipe": found.recipe.model_dump(mode="json")})
        return
    fit = found.fit
    print_rich(
        PlanView(
            recipe=recipe,
            base=_base(found.recipe.model),
            base_parameters=found.base_parameters,
            rows_train=found.rows_train,
            rows_eval=found.rows_eval,
            tokens=found.tokens,
            tokens_trained=found.tokens_trained,
            checks=found.checks,
            num_steps=found.num_steps,
            num_epochs=found.num_epochs,
            learning_rate=f"{found.recipe.train.learning_rate:g}, by {found.rate_source}",
            precision=found.recipe.train.precision,
            device=found.device,
            adapter=found.recipe.adapter.name,
            targets=[f"{kind} x{number}" for kind, number in found.targets.items()],
            trainable_parameters=found.trainable_parameters,
            worst_batch_tokens=fit.worst_batch_tokens,
            peak_memory_gib=fit.peak_memory_gib,
            available_memory_gib=fit.available_memory_gib,
            seconds_per_step=fit.predicted_seconds / found.num_steps,
            predicted_seconds=fit.predicted_seconds,
            evaluation_seconds=found.evaluation_seconds,
            reference_seconds=found.reference_seconds,
            sampling_seconds=found.sampling_seconds,
            passes_per_step=fit.passes_per_step,
            padding=fit.padding,
            imbalance=fit.imbalance,
            disk_needed_bytes=found.room.needed_bytes,
            disk_free_bytes=found.room.free_bytes,
            changes=[(c.overrides, c.peak_memory_gib, c.fits) for c in found.changes],
            warnings=[f"{check.name}: {check.says}" for check in found.checks if not check.ok],
        )
    )


def _base(model: ModelSection) -> str:
    """The base's name, and how it is held where that is not as published."""
    return model.base if model.quantize == "none" else f"{model.base} in {model.quantize}"
