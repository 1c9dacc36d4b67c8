"""What `tunesmith export` shows of a certificate."""

from dataclasses import asdict

from rich.console import Console

from tunesmith.cli.export import _table
from tunesmith.export.certificate import Certificate, HeldoutLoss
from tunesmith.export.ollama import Parity

PROOF = Certificate(
    ok=True,
    max_logit_difference=0.0421,
    tolerance=None,
    equal_greedy_tokens=0.992,
    prompts=4,
    mean_kl=1.25e-4,
    worst_kl=3.1e-3,
    relative_difference=0.0123,
    limits={"mean_kl": 0.02},
    reader="llama.cpp",
    heldout_loss=HeldoutLoss(16, 500, 0.21412, 0.21531),
    texts=19,
    template=Parity(97, 91, "white space"),
)


def _shown(proof):
    console = Console(width=100)
    with console.capture() as captured:
        console.print(_table(proof))
    return [" ".join(line.split()) for line in captured.get().splitlines()]


def test_figures_stand_beside_their_limits():
    shown = _shown(asdict(PROOF))
    assert shown[0] == "compared with the trained model on 4 prompts, read by llama.cpp"
    assert "│ mean_kl │ 0.000125 │ 0.02 │" in shown
    assert "│ worst_kl │ 0.0031 │ │" in shown
    assert "│ loss on 16 held-out rows │ 0.2141 trained, 0.2153 exported │ │" in shown
    assert "│ texts with other token ids │ 0 │ 0 │" in shown
    assert "│ template equal in every byte │ 91 of 97 conversations │ │" in shown


def test_what_was_not_compared_is_left_out():
    shown = "\n".join(_shown(asdict(Certificate(True, 0.0, 1e-3, 1.0, 4))))
    assert "held-out" not in shown
    assert "token ids" not in shown
    assert "template" not in shown
