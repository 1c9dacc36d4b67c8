"""Wires what a method needs that draws its answers: prompts, sampler, graders, shelf."""

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from time import perf_counter

from tunesmith.api.batches import build_layout
from tunesmith.api.judges import means_in
from tunesmith.api.learner import Learner
from tunesmith.api.rewards import build_rewards
from tunesmith.api.rows import Rows, pad_id
from tunesmith.api.teacher import open_teacher
from tunesmith.data.loader import Loader
from tunesmith.data.reading import read_file
from tunesmith.data.rollout import Group
from tunesmith.data.row import OnBad, place, refuse
from tunesmith.engine.rollouts.judge import Judge
from tunesmith.engine.rollouts.loader import Draw, Rollouts
from tunesmith.engine.rollouts.sampler import Question, Sampler
from tunesmith.engine.rollouts.shelf import Shelf
from tunesmith.engine.rollouts.start import Start
from tunesmith.errors import RecipeError
from tunesmith.generate.modes import max_tokens
from tunesmith.generate.options import GenerateOptions
from tunesmith.models.policy import Policy
from tunesmith.models.resolve import resolve as find
from tunesmith.recipe import Recipe
from tunesmith.runs.events import Event, Warned
from tunesmith.runs.folder import RunFolder

Places = dict[tuple[str, int], Question]


def supply(
    loader: Loader,
    recipe: Recipe,
    rows: Rows,
    learner: Learner,
    folder: RunFolder,
    notice: Callable[[Event], None],
) -> None:
    """Let a loader of rollouts draw; any other is left as it is.

    Must be called before anything is trained or restored.

    Raises:
        RecipeError: A grader that cannot grade the rows, answers that the base has no room for, or
            a teacher that `open_teacher` refuses.
    """
    if not isinstance(loader, Rollouts):
        return
    means = means_in(recipe, learner, rows.renderer)
    grade, questions = build_rewards(recipe.method, means), _questions(recipe, rows)
    grade.require([(place(*where), question) for where, question in questions.items()])
    _require_positions(recipe, rows, learner)
    sampler = Sampler(
        model=learner.attached.model,
        renderer=rows.renderer,
        config=recipe.method,
        options=GenerateOptions(
            recipe.method.max_new_tokens,
            rows.renderer.stop_ids,
            pad_id(rows.renderer),
            recipe.evaluate.batch_rows,
            keep_stop=True,
        ),
        seed=recipe.train.seed,
        grade=grade,
        judge=Judge(
            learner.policy,
            Start(learner.attached) if recipe.method.compared else None,
            recipe.method,
            build_layout(recipe),
            pad_id(rows.renderer),
            _teacher(recipe, rows) if recipe.method.teacher_tokens else None,
        ),
        warn=lambda text: notice(Warned(text)),
    )
    loader.draw = _asked(sampler, questions)
    loader.shelf = Shelf(folder.rollouts)
    loader.notice = lambda text: notice(Warned(text))


def _teacher(recipe: Recipe, rows: Rows) -> Policy:
    return open_teacher(find(recipe.method.teacher, None), recipe, rows.renderer.tokenizer)


def sampling_seconds(loader: Loader, recipe: Recipe, rows: Rows, learner: Learner) -> float | None:
    """Seconds that drawing and judging all answers of the run will take, by the first rollout.

    None where none are drawn. Nothing is left on the disk.
    """
    if not isinstance(loader, Rollouts):
        return None
    supply(loader, recipe, rows, learner, RunFolder(Path(recipe.output.dir)), lambda event: None)
    start = perf_counter()
    loader.draw([loader.asked(example) for example in loader.planned(0)], (0, 0))
    return (perf_counter() - start) * ceil(loader.num_steps / recipe.method.steps_per_rollout)


def _asked(sampler: Sampler, questions: Places) -> Draw:
    """The sampler with the question of each prompt at hand."""

    def draw(groups: Sequence[Group], where: tuple[int, int]) -> list[Group]:
        return sampler(groups, [questions[group.source, group.row] for group in groups], where)

    return draw


def _questions(recipe: Recipe, rows: Rows) -> Places:
    """Reference and raw row of every row that can be trained on, in the order of the files."""
    asked = {rows.train.place(index) for index in range(len(rows.train))}
    on_bad: OnBad = refuse if recipe.data.on_bad_row == "error" else lambda *problem: None
    found = {}
    for source in recipe.data.train_sources:
        for row in read_file(source.path, source.format, on_bad):
            if (row.source, row.number) in asked:
                reference = rows.renderer.reference(row.content)
                found[row.source, row.number] = Question(reference, row.raw)
    return found


def _require_positions(recipe: Recipe, rows: Rows, learner: Learner) -> None:
    longest, positions = int(rows.train.prompt_tokens.max()), max_tokens(learner.attached.model)
    if positions is not None and longest + recipe.method.max_new_tokens > positions:
        raise RecipeError(
            "method.max_new_tokens",
            got=f"{recipe.method.max_new_tokens} behind a prompt of {longest} tokens",
            expected=f"{positions} tokens in all at most, which is what this base can see",
            hint=f"set method.max_new_tokens={positions - longest}, or leave out long rows",
        )
