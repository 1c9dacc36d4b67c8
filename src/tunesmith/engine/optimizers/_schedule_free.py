"""What the schedule-free optimizers have in common: the library, and its two sets of weights."""

from torch.optim import Optimizer

from tunesmith.engine.optimizers.base import Choice, imported


def choice_of(name: str, kind: str) -> Choice:
    """The choice of the class `kind` under `name`."""
    library = imported("schedulefree", name, "optimizers")
    return Choice(
        getattr(library, kind),
        schedules=("constant",),
        begin=lambda optimizer: optimizer.train(),
        measured=_to_average,
    )


def _to_average(optimizer: Optimizer) -> None:
    """The average x in the place of y; the library's flag goes on saying that it trains."""
    optimizer.eval()
    for group in optimizer.param_groups:
        group["train_mode"] = True
