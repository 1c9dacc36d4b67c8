"""Public benchmarks, run by lm-eval on a model that is loaded here."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from tunesmith.api.answer import open_speaker
from tunesmith.config.check import did_you_mean
from tunesmith.errors import CommandError, MachineError
from tunesmith.models.policy import Policy

INSTALL = "pip install 'tunesmith[lm-eval]'"


def run_harness(
    name: str,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    shots: int | None = None,
    folder: str | None = None,
    chat: bool = False,
) -> dict[str, Any]:
    """Score a run or a base on tasks of lm-eval.

    Args:
        name: A run folder, `starter`, a model folder, a GGUF file or a hub id.
        tasks: Their names, such as `arc_easy`. Their data comes from the hub, unless a task file
            names local data.
        limit: Only the first so many rows of each.
        shots: Worked examples before each question; None leaves it to the task.
        folder: Holds task files of your own, which come before lm-eval's. They may name Python
            functions, which run: use files that you trust.
        chat: Put questions through the chat template.

    Returns:
        `lm_eval`, its version; `limit`; `tasks`: by task `n` and the scores as lm-eval names them,
        each with its standard error.

    Raises:
        CommandError: lm-eval is not installed, or has no such task.
        MachineError: The data cannot be fetched.
    """
    if find_spec("lm_eval") is None:
        raise CommandError(
            "--lm-eval", got="no package lm_eval", expected="lm-eval 0.4.13", hint=INSTALL
        )
    import lm_eval
    from lm_eval.tasks import TaskManager

    from tunesmith.api.harness_model import HarnessModel

    manager = TaskManager(include_path=folder)
    _require_known(tasks, manager)
    speaker = open_speaker(name)
    model = HarnessModel(speaker, Policy(speaker.model, "fast", speaker.model.dtype))
    try:
        found = lm_eval.simple_evaluate(
            model,
            tasks=list(tasks),
            num_fewshot=shots,
            limit=limit,
            bootstrap_iters=1000,
            log_samples=False,
            apply_chat_template=chat,
            task_manager=manager,
        )
    except (ConnectionError, OSError) as error:
        raise MachineError(
            f"data of {', '.join(tasks)}",
            got=str(error).splitlines()[0],
            expected="the data set from the hub, or a task file that names local data",
            hint="docs/graders.md, Public benchmarks, shows a task file over a local file",
        ) from error
    return {"lm_eval": lm_eval.__version__, "limit": limit, "tasks": _scores(found)}


def _require_known(tasks: Sequence[str], manager: Any) -> None:
    for task in tasks:
        if not manager.match_tasks([task]):
            raise CommandError(
                "--lm-eval",
                got=repr(task),
                expected=f"one of lm-eval's {len(manager.all_tasks):,} tasks",
                hint=did_you_mean(task, manager.all_tasks),
            )


def _scores(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By task its number of rows and its scores; lm-eval writes `acc,none` for the plain one."""
    return {
        task: {
            "n": found["n-samples"].get(task, {}).get("effective"),
            **{
                key.removesuffix(",none"): value
                for key, value in scores.items()
                if "," in key and isinstance(value, int | float)
            },
        }
        for task, scores in found["results"].items()
    }
