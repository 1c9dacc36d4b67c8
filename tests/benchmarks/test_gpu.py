"""The benchmark for GPUs runs end to end on the processor with a tiny shape."""

import json
import math

import pytest
import torch

from benchmarks import gpu, gpu_run
from benchmarks.gpu_cases import SIDES, WAYS, Case, cases

CPU = torch.device("cpu")


@pytest.fixture
def in_this_process(monkeypatch):
    """Each case without a process of its own, which would spend its time on imports."""

    def answer(command):
        case = Case(**json.loads(command[-1]))
        if case.side != "tunesmith":
            return {"failed": "no TRL in a unit test"}
        return gpu_run.measure(case, CPU) | {"products_per_second": 1e11}

    monkeypatch.setattr(gpu, "_answer", answer)


@pytest.mark.parametrize("way", WAYS)
def test_a_case_trains_on_any_machine(way):
    if way == "qlora":
        pytest.importorskip("bitsandbytes", reason="nf4 needs the extra `quant`")
    case = Case("tiny", way, 32, "tunesmith", num_examples=2, num_steps=2)
    found = gpu_run.measure(case, CPU)
    assert len(found["seconds"]) == 2
    assert len(found["losses"]) == 4
    # Random weights know nothing: ln 320 nats a token. The same batch again and again is learned.
    assert found["losses"][0] == pytest.approx(math.log(320), rel=0.05)
    assert found["losses"][-1] < found["losses"][0]


def test_the_whole_run_writes_what_it_prints(in_this_process, tmp_path, capsys):
    out = tmp_path / "gpu.json"
    given = ["--tiny", "--ways", "lora", "fp8", "--sides", "tunesmith", "trl", "--out", str(out)]
    assert gpu.main(given) == 0
    written = json.loads(out.read_text())
    # A build may add its own name: 2.13.0+cpu.
    assert torch.__version__.startswith(written["versions"]["torch"])
    ours = [found for found in written["results"] if found["side"] == "tunesmith"]
    assert [(found["way"], found["length"]) for found in ours] == [
        ("lora", 32),
        ("fp8", 32),
        ("lora", 64),
        ("fp8", 64),
    ]
    for found in ours:
        assert found["low"] <= found["tokens_per_second"] <= found["high"]
        needed = gpu.operations_per_token("tiny", found["length"], "lora")
        assert found["share"] == pytest.approx(found["tokens_per_second"] * needed / 1e11)
    shown = capsys.readouterr().out
    assert "no TRL in a unit test" in shown
    assert f"{ours[0]['tokens_per_second']:,.0f}" in shown


def test_without_a_gpu_it_says_what_it_needs(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert "expected an NVIDIA GPU\nhint: --tiny" in capsys.readouterr().err


def test_what_fails_is_a_line_of_the_table(monkeypatch):
    monkeypatch.setattr(gpu_run, "_run", lambda case, device: _no_memory())
    case = Case("tiny", "lora", 32, "tunesmith", 2, 2)
    assert gpu_run.measure(case, CPU) == {"failed": "out of memory: 3 GiB wanted"}
    assert gpu._answer(["false"]) == {"failed": "exit code 1"}


def _no_memory():
    raise torch.OutOfMemoryError("3 GiB wanted\nand more lines")


@pytest.mark.parametrize(
    ("shape", "way", "expected"),
    [
        # Per block 4096 x (4096 + 1024 + 1024 + 4096) + 3 x 4096 x 14336 = 218.1 M, times 32 =
        # 6,979 M; head 525.3 M; LoRA of rank 16: 41.9 M; attention 2 x 2048 x 4096 x 32 = 0.54 G.
        ("llama-3.1-8b", "lora", 4 * (6.9793 + 0.5253) + 6 * 0.0419 + 3 * 0.5369),
        ("llama-3.1-8b", "full", 6 * (6.9793 + 0.5253) + 3 * 0.5369),
        # Per block 41.9 M + 3 x 4096 x 12288 = 193.0 M, times 36 = 6,946 M; head 622.3 M;
        # LoRA 43.6 M; attention 0.60 G.
        ("qwen3-8b", "lora", 4 * (6.9461 + 0.6223) + 6 * 0.0436 + 3 * 0.6040),
    ],
)
def test_operations_of_a_token_by_hand(shape, way, expected):
    assert gpu.operations_per_token(shape, 2048, way) / 1e9 == pytest.approx(expected, rel=1e-3)


def test_cases_fill_the_tokens_of_a_step():
    every = cases(["tiny"], list(WAYS), [2048, 4096], list(SIDES), 16384, 3)
    assert {case.tokens_per_step for case in every} == {16384}
    assert {case.way for case in every if case.side != "tunesmith"} == {"lora", "full"}
    assert len(every) == 2 * (4 + 2 + 2)
