"""Rows as the model sees them, with colour and without."""

from io import BytesIO, StringIO, TextIOWrapper

import pytest
from rich.console import Console

from tunesmith.cli.show_rows import RowView, preview

PIECES = [
    ("<|im_start|>user\nHi [b]", False),
    ("<|im_end|>\n<|im_start|>assistant\n", False),
    ("Hello", True),
    ("!<|im_end|>", True),
    ("\n", False),
]
ROW = RowView("data/a.jsonl", 17, PIECES, 12, 3, ("<|im_start|>", "<|im_end|>"))


def shown(*rows: RowView, **options: object) -> str:
    console = Console(file=StringIO(), width=80, **options)
    console.print(preview(rows))
    return console.file.getvalue()


def test_without_colour_trained_spans_stand_between_marks() -> None:
    lines = [line.rstrip() for line in shown(ROW).splitlines()]
    assert lines == [
        r"⟦trained⟧  all else is not trained  \n = newline",
        "",
        "data/a.jsonl:17  12 tokens, 3 trained (25.0 %)",
        r"  <|im_start|>user\n",
        r"  Hi [b]<|im_end|>\n",
        r"  <|im_start|>assistant\n",
        r"  ⟦Hello!<|im_end|>⟧\n",
        "",
        "1 row: 12 tokens, 3 trained (25.0 %)",
    ]


def test_no_color_on_a_terminal_has_marks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "⟦Hello!<|im_end|>⟧" in shown(ROW, force_terminal=True)


def test_an_ascii_terminal_has_ascii_marks() -> None:
    file = TextIOWrapper(BytesIO(), encoding="ascii")
    Console(file=file, width=80).print(preview([ROW]))
    file.seek(0)
    assert "[[Hello!<|im_end|>]]" in file.read()


def test_with_colour_trained_text_has_its_own_ground_and_no_marks() -> None:
    text = shown(ROW, force_terminal=True, color_system="truecolor")
    trained_ground, trained_special_ground = "48;2;95;215;135", "48;2;0;175;95"
    assert f"{trained_ground}mHello" in text
    assert f"{trained_special_ground}m<|im_end|>" in text
    assert "⟦" not in text
    untrained = text.split("Hello")[0].split("data/a.jsonl")[1]
    assert trained_ground not in untrained.rpartition("assistant")[0]
    assert "\x1b[35m<|im_start|>" in untrained


def test_all_or_nothing_trained() -> None:
    assert "  ⟦abc⟧\n" in _bare(shown(RowView("a", 1, [("abc", True)], 1, 1)))
    assert "  abc\n" in _bare(shown(RowView("a", 1, [("abc", False)], 1, 0)))
    assert "0 rows: 0 tokens, 0 trained (0.0 %)" in shown()


def _bare(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def test_control_characters_are_shown() -> None:
    assert "␛[2Jx" in shown(RowView("a", 1, [("\x1b[2Jx", False)], 1, 0))
