"""The checks before step 1: each holds on sound examples and fails on planted faults."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import processors

from tunesmith.data.contract import Check, check, require
from tunesmith.data.encoded import Encoded
from tunesmith.data.prepared import Prepared
from tunesmith.data.row import Conversation, Text
from tunesmith.data.section import Source
from tunesmith.data.store import PrepareOptions, prepare
from tunesmith.data.template import Renderer
from tunesmith.errors import DataError
from tunesmith.testing.tiny import CHATML, IM_END, PAD, byte_tokenizer

PAIRS = [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(5)]


@pytest.fixture
def ready(write_rows, tmp_path: Path):
    """Writes and prepares rows."""

    def make(encoder: object, rows: list[dict] = PAIRS, name: str = "rows.jsonl", **more: object):
        options = PrepareOptions(**({"max_tokens": 500} | more))
        source = Source(path=str(write_rows(rows, name)))
        return prepare([source], encoder, options, tmp_path / "cache")

    return make


def found(checks: list[Check], name: str) -> Check:
    return next(one for one in checks if one.name == name)


class Broken:
    """An encoder that spoils what a renderer made."""

    def __init__(self, renderer: Renderer, spoil) -> None:
        self._renderer, self._spoil = renderer, spoil
        self.fingerprint, self.shapes = "broken", renderer.shapes

    def look_ahead(self, contents: list) -> None:
        """Nothing to prepare."""

    def examples(self, content: Conversation | Text) -> list[Encoded]:
        encoded = self._renderer.encode(content)
        ids, trained = encoded.input_ids.copy(), encoded.trained.copy()
        ids, trained = self._spoil(ids, trained)
        made = Encoded(ids.astype(np.int32), trained, encoded.prompt_tokens, encoded.truncated)
        return [made]


def test_sound_examples_pass_every_check(renderer: Renderer, ready) -> None:
    train = ready(renderer)
    checks = check(train, None, renderer)
    assert all(one.ok for one in checks)
    require(checks)
    assert found(checks, "stop token").figure == 1.0
    assert found(checks, "prompt parity").says == (
        "100.0% of 5 examples begin with the prompt as inference renders it"
    )
    tokens, trained = int(train.lengths.sum()), 5 * (len("answer 0") + 1)
    assert found(checks, "share trained").figure == trained / tokens
    assert found(checks, "share trained").says == f"{trained} of {tokens} tokens carry loss"


@pytest.mark.parametrize("train_on", ["assistant", "last", "all"])
def test_all_ways_to_train_pass(make_renderer, ready, train_on: str) -> None:
    renderer = make_renderer(train_on=train_on)
    turns = [{"role": r, "content": r} for r in ("user", "assistant", "user", "assistant")]
    checks = check(ready(renderer, [{"messages": turns}], train_on=train_on), None, renderer)
    require(checks)
    assert all(one.ok for one in checks)


def cut_stop(ids: np.ndarray, trained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    trained[np.flatnonzero(trained)[-1]] = False
    return ids, trained


def two_bos(ids: np.ndarray, trained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([ids[:1], ids]), np.concatenate([[False], trained])


def other_prompt(ids: np.ndarray, trained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ids[3] += 1
    return ids, trained


def nothing_trained(ids: np.ndarray, trained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ids, np.zeros_like(trained)


@pytest.mark.parametrize(
    ("spoil", "name", "says"),
    [
        (cut_stop, "stop token", "0.0% of 5 examples end with a trained stop token: "),
        (two_bos, "one BOS", "5 examples begin with BOS twice: "),
        (other_prompt, "prompt parity", "0.0% of 5 examples begin with the prompt as inference"),
        (nothing_trained, "trained rows", "5 examples without a token to train on: "),
    ],
)
def test_a_planted_fault_ends_the_run(renderer: Renderer, ready, spoil, name, says) -> None:
    renderer.tokenizer.bos_token = "<|im_start|>"
    train = ready(Broken(renderer, spoil))
    checks = check(train, None, renderer)
    assert not found(checks, name).ok
    assert found(checks, name).says.startswith(says)
    assert "rows.jsonl:1" in found(checks, name).says
    with pytest.raises(DataError, match="token contract, "):
        require(checks)


def test_one_fault_among_many_is_found(renderer: Renderer, ready) -> None:
    seen = iter(range(3000))

    def spoil(ids: np.ndarray, trained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return cut_stop(ids, trained) if next(seen) == 2345 else (ids, trained)

    rows = [{"prompt": str(i), "completion": "a"} for i in range(3000)]
    one = found(check(ready(Broken(renderer, spoil), rows), None, renderer), "stop token")
    assert not one.ok
    assert one.says.endswith("rows.jsonl:2346")


def test_cut_examples_cannot_end_and_are_said(make_renderer, ready) -> None:
    renderer = make_renderer(max_tokens=45, overlong="truncate")
    rows = [*PAIRS, {"prompt": "q", "completion": "a" * 100}]
    train = ready(renderer, rows, max_tokens=45, overlong="truncate")
    checks = check(train, None, renderer)
    stop = found(checks, "stop token")
    assert stop.ok
    assert stop.says == "100.0% of 5 examples end with a trained stop token; 1 cut ones cannot"
    assert found(checks, "lengths") == Check(
        "lengths", False, 1, "beyond 45 tokens: 0 rows dropped, 1 truncated"
    )
    require(checks)


def test_dropped_and_skipped_rows_warn(make_renderer, ready) -> None:
    renderer = make_renderer(max_tokens=60, overlong="drop")
    rows = [*PAIRS, {"prompt": "q", "completion": "a" * 100}, {"prompt": "q", "completion": ""}]
    train = ready(renderer, rows, max_tokens=60, overlong="drop", on_bad_row="skip")
    checks = check(train, None, renderer)
    assert found(checks, "lengths").says == "beyond 60 tokens: 1 rows dropped, 0 truncated"
    skipped = found(checks, "bad rows")
    assert not skipped.ok
    assert skipped.says.startswith("1 bad rows skipped: ")
    assert "rows.jsonl:7 (an empty answer (completion)" in skipped.says
    require(checks)


def test_held_out_rows_that_are_trained_on_are_listed_and_warn(renderer, ready) -> None:
    train: Prepared = ready(renderer)
    extra = [{"prompt": "new", "completion": "row"}]
    held_out = ready(renderer, [*extra, PAIRS[3], PAIRS[1]], "held_out.jsonl")
    apart = found(check(train, held_out, renderer), "held-out rows apart")
    assert not apart.ok
    assert apart.figure == 2
    assert apart.says.startswith("2 of 3 held-out examples are also trained on: ")
    assert apart.says.count("held_out.jsonl:") == 2
    assert "held_out.jsonl:2" in apart.says
    require(check(train, held_out, renderer))
    alone = ready(renderer, extra, "alone.jsonl")
    assert found(check(train, alone, renderer), "held-out rows apart").ok


def test_duplicates_are_a_figure_and_no_fault(renderer, ready) -> None:
    duplicates = found(check(ready(renderer, PAIRS + PAIRS[:2]), None, renderer), "duplicates")
    assert duplicates == Check("duplicates", True, 2, "2 examples repeat an earlier one")


def test_parity_is_checked_on_rows_from_all_of_the_file(renderer: Renderer, ready) -> None:
    rows = [{"prompt": str(i), "completion": "a"} for i in range(1000)]
    parity = found(check(ready(renderer, rows), None, renderer), "prompt parity")
    assert "of 200 examples" in parity.says


def test_texts_have_no_prompt_to_compare(renderer: Renderer, ready) -> None:
    checks = check(ready(renderer, [{"text": "one"}, {"text": "two"}]), None, renderer)
    require(checks)
    assert "of 0 examples" in found(checks, "prompt parity").says


def test_a_template_that_leaves_the_bos_out_is_warned_of(ready) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = "<|pad|>"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|pad|> $A", special_tokens=[("<|pad|>", PAD)]
    )
    renderer = Renderer(tokenizer, frozenset({IM_END}))
    one = found(check(ready(renderer), None, renderer), "BOS first")
    assert (one.ok, one.figure) == (False, 5)
    assert one.says.startswith("5 examples lack the BOS that the tokenizer itself adds")
    require([one])
    tokenizer.chat_template = "{{ bos_token }}" + CHATML
    writes = Renderer(tokenizer, frozenset({IM_END}))
    assert all(each.ok for each in check(ready(writes), None, writes))


def test_a_template_with_todays_date_is_warned_of(make_renderer, ready) -> None:
    renderer = make_renderer("{{ strftime_now('%Y') }}" + CHATML)
    train = ready(renderer)
    assert bytes(train[0].input_ids[:4].tolist()) == b"2026"
    one = found(check(train, None, renderer), "no date")
    assert not one.ok
    assert one.says.endswith("every example has 2026-01-01 instead")
    require([one])
