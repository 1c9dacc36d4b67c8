"""The adapters' figures as a table, and as a picture of score against forgetting."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

HEAD = (
    "| adapter | trained | share | rate | BLEU | ROUGE-L | KL | tokens/s | peak GiB | MB |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run gave.

    Attributes:
        adapter: Its name.
        rate: Peak learning rate.
        seed: Of the run.
        trainable: Trained parameters.
        share: Of all parameters.
        heldout: Loss of held-out rows, nats per token; chooses the rate.
        bleu: On the test rows, with all references.
        rouge_l: Likewise.
        kl: From the base on its own answers to general prompts, nats per token.
        tokens_per_second: While training.
        peak_gib: Resident memory.
        megabytes: Of what was exported.
    """

    adapter: str
    rate: float
    seed: int
    trainable: int
    share: float
    heldout: float
    bleu: float
    rouge_l: float
    kl: float
    tokens_per_second: float
    peak_gib: float
    megabytes: float


@dataclass(frozen=True, slots=True)
class Base:
    """The untrained base on the test rows.

    Attributes:
        bleu: With all references.
        rouge_l: Likewise.
    """

    bleu: float
    rouge_l: float


def table(base: Base, found: dict[str, Sequence[Figures]]) -> str:
    """A Markdown table, best BLEU first: mean over the seeds, and in brackets their range.

    Speed and memory are those of the first run, which had the machine to itself.
    """
    rows = sorted(found.items(), key=lambda item: -mean(run.bleu for run in item[1]))
    last = f"| the base | | | | {base.bleu:.1f} | {base.rouge_l:.1f} | 0 | | | |\n"
    return HEAD + "".join(_row(name, runs) for name, runs in rows) + last


def _row(name: str, runs: Sequence[Figures]) -> str:
    one = runs[0]
    cells = [
        f"`{name}`",
        f"{one.trainable:,}",
        f"{one.share:.2%}",
        f"{one.rate:.2g}",
        _spread([run.bleu for run in runs], 1),
        _spread([run.rouge_l for run in runs], 1),
        _spread([run.kl for run in runs], 3),
        f"{one.tokens_per_second:,.0f}",
        f"{one.peak_gib:.1f}",
        f"{one.megabytes:.2f}",
    ]
    return f"| {' | '.join(cells)} |\n"


def _spread(values: Sequence[float], digits: int) -> str:
    low, high = min(values), max(values)
    return f"{mean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def plot(base: Base, found: dict[str, Sequence[Figures]], path: Path) -> None:
    """BLEU over KL from the base, a point for each seed, and the base as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, runs in found.items():
        kl, bleu = [run.kl for run in runs], [run.bleu for run in runs]
        axes.plot(kl, bleu, "o-", markersize=5)
        axes.annotate(name, (mean(kl), mean(bleu)), (4, 4), textcoords="offset points", fontsize=8)
    axes.axhline(base.bleu, color="grey", linestyle="--", label="the base")
    axes.legend(fontsize="small")
    axes.set_xlabel("KL from the base, nats per token (forgetting)")
    axes.set_ylabel("BLEU on the test rows")
    axes.set_xscale("symlog", linthresh=0.01)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)
