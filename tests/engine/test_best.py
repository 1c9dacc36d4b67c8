"""The best checkpoint has the best score within the forgetting budget."""

from tunesmith.engine.best import best_step
from tunesmith.runs.events import Evaluated, Forgetting, TaskScore


def _at(step, score=None, loss=None, kl=None):
    tasks = () if score is None else (TaskScore("t", 10, score),)
    forgetting = None if kl is None else Forgetting(kl, 1.0)
    return Evaluated(step, loss, tasks, forgetting, 0.0)


def test_the_best_score_wins_and_the_base_never_does():
    assert best_step([_at(0, 0.99), _at(5, 0.5), _at(10, 0.7), _at(15, 0.6)], None) == 10


def test_equal_scores_go_to_the_lower_loss_then_to_the_earlier_step():
    assert best_step([_at(5, 0.7, 2.0), _at(10, 0.7, 1.0), _at(15, 0.7, 1.0)], None) == 10


def test_without_tasks_the_held_out_loss_decides():
    assert best_step([_at(5, loss=2.0), _at(10, loss=1.0), _at(15, loss=1.5)], None) == 10


def test_without_measures_the_latest_step_is_taken():
    assert best_step([_at(5, kl=0.1), _at(10, kl=0.2)], None) == 10


def test_a_checkpoint_over_the_budget_is_out():
    history = [_at(5, 0.6, kl=0.1), _at(10, 0.9, kl=0.3)]
    assert best_step(history, 0.2) == 5
    assert best_step(history, 0.05) is None
    assert best_step([_at(5, 0.6)], 0.2) is None


def test_an_evaluation_without_the_measure_that_decides_comes_last():
    nan = float("nan")
    assert best_step([_at(5, 0.1), _at(10), _at(15, loss=0.1)], None, "t") == 5
    assert best_step([_at(5, 0.1), _at(10, 0.9)], None, "other") == 10
    assert best_step([_at(5, 0.1, 1.0), _at(10, 0.9, 2.0)], None, "other") == 5
    assert best_step([_at(5, nan), _at(10, 0.2), _at(15, nan)], None) == 10
    assert best_step([_at(5, 0.2, nan), _at(10, 0.2, 3.0)], None) == 10
