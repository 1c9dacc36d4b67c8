"""The targets of `make fuzz` do what they say, on their seeds and on seeds with a byte changed."""

import importlib.util
import random
import time

import pytest

from fuzz import targets
from fuzz.seeds import seeds
from fuzz.targets import TARGETS, strike, warm
from tunesmith.errors import DataError

HEADERS = {"safetensors_header", "gguf_header"}


def skip_without(name: str) -> None:
    if name in HEADERS and importlib.util.find_spec(f"tunesmith.models.{name}") is None:
        pytest.skip(f"there is no tunesmith.models.{name}")


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_reads_its_seeds_and_survives_changed_ones(name: str) -> None:
    skip_without(name)
    warm(name, seeds(name)[0])
    draw = random.Random(name)
    for seed in seeds(name):
        strike(TARGETS[name], seed)
        for _ in range(5):
            data = bytearray(seed)
            data[draw.randrange(len(data))] = draw.randrange(256)
            strike(TARGETS[name], bytes(data))


@pytest.mark.parametrize("name", ["jsonl", "template"])
def test_seeds_are_valid(name: str) -> None:
    TARGETS[name](seeds(name)[0])


def test_other_exceptions_and_slow_inputs_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "MAX_SECONDS", 0.1)

    def raises(data: bytes) -> None:
        raise DataError("f", got="x") if data else KeyError("x")

    def works(data: bytes) -> None:
        end = time.process_time() + 0.12
        while time.process_time() < end:
            pass

    strike(raises, b"x")
    with pytest.raises(KeyError):
        strike(raises, b"")
    with pytest.raises(AssertionError, match=r"works took 0\.1 s for 1 bytes"):
        strike(works, b"x")
