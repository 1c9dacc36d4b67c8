"""The page: everything is there, nothing of a user's text can act, nothing is loaded."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tunesmith.runs.folder import RunFolder
from tunesmith.runs.report import page
from tunesmith.runs.report.material import Material
from tunesmith.runs.report.write import write
from tunesmith.testing.fake_run import fake_run

EVIL = "<script>alert(1)</script> \"'&$x^2$ \x1b[31m"
"""Where a user's text can come from, this comes."""

VOID = {"meta", "br", "path", "use", "rect", "image"}


class Reader(HTMLParser):
    """Collects tags, text and addresses, and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attributes if k.endswith(("href", "src"))]
        assert not [name for name, _ in attributes if name.startswith("on")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attributes if k.endswith(("href", "src"))]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def poisoned(value: Any) -> Any:
    """The same JSON with EVIL behind every text but a status and a time."""
    if isinstance(value, str):
        fixed = {"succeeded", "failed", "lora"}
        return value if value in fixed or value.startswith("2026-") else value + EVIL
    if isinstance(value, dict):
        keys = ("name", "shapes", "sha256", "timings")
        return {
            key: {f"{k}{EVIL}": poisoned(v) for k, v in each.items()}
            if key in keys and isinstance(each, dict)
            else poisoned(each)
            for key, each in value.items()
        }
    return [poisoned(each) for each in value] if isinstance(value, list) else value


def poison(folder: RunFolder) -> None:
    for path in (folder.report_json, folder.samples, folder.lock):
        if path.exists():
            path.write_text(json.dumps(poisoned(json.loads(path.read_text()))))
    lines = [json.loads(line) for line in folder.events.read_text().splitlines()]
    for line in lines:
        line["tasks"] = [task | {"name": EVIL} for task in line.get("tasks", ())]
        line["rows"] = [[EVIL, 1] for _ in line.get("rows", ())]
    folder.events.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("ending", ["succeeded", "failed", "interrupted", "killed"])
@pytest.mark.parametrize("measured", [True, False])
def test_every_kind_of_run_has_a_sound_page(tmp_path: Path, ending: str, measured: bool) -> None:
    html = page.render(Material.read(fake_run(tmp_path / "run", ending, measured)))
    reader = read(html)
    assert "None" not in " ".join(reader.text)
    assert reader.tags.count("h1") == 1
    resumable = ending != "succeeded"
    assert (f"tunesmith resume {tmp_path}/run" in html) == resumable


def test_what_a_reader_looks_for_is_there(tmp_path: Path) -> None:
    text = " ".join(read(page.render(Material.read(fake_run(tmp_path / "run")))).text)
    for part in (
        "rose from 0.0 % to 91.5 % on 200 held-out rows (gain 91.5 points",
        "within the budget of 0.2.",
        "stop token trained",
        "not ok",
        "My router drops the connection",
        "model.layers.*.self_attn.q_proj",
        "9f" * 32,
        "Certificate",
        "transformers",
        f"tunesmith chat {tmp_path}/run",
        "AutoPeftModelForCausalLM",
        "data/train.jsonl:17, data/train.jsonl:388",
        "measuring the base",
        "The run started 2026-09-01 09:30 UTC, finished 2026-09-01 09:35 UTC.",
    ):
        assert part in text, part


@pytest.mark.parametrize("ending", ["succeeded", "failed"])
def test_a_text_of_a_user_is_shown_and_does_nothing(tmp_path: Path, ending: str) -> None:
    folder = fake_run(tmp_path / "<script>run", ending)
    poison(folder)
    html = page.render(Material.read(folder))
    reader = read(html)
    assert "script" not in reader.tags
    assert "<script>alert(1)</script>" in " ".join(reader.text)
    assert "\x1b" not in html
    assert "$x^2$" in html


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    html = page.render(Material.read(fake_run(tmp_path / "run")))
    reader = read(html)
    assert [address for address in reader.addresses if not address.startswith("#")] == []
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "default-src 'none'" in html


def test_the_page_is_the_same_each_time(tmp_path: Path) -> None:
    material = Material.read(fake_run(tmp_path / "run"))
    assert page.render(material) == page.render(material)


def test_no_two_drawings_share_an_id(tmp_path: Path) -> None:
    html = page.render(Material.read(fake_run(tmp_path / "run")))
    drawings = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    named = [set(re.findall(r'clipPath id="([^"]+)"', drawing)) for drawing in drawings]
    assert len(drawings) == 4
    assert sum(map(len, named)) == len(set().union(*named)) > 0


def test_write_leaves_both_reports(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run")
    rows = json.loads(folder.samples.read_text())
    rows[0]["before"] = "half a pair: \ud83d"
    folder.samples.write_text(json.dumps(rows))
    write(folder)
    assert folder.report_md.read_text(encoding="utf-8").startswith("# tickets: succeeded")
    assert "half a pair: \\ud83d" in folder.report_html.read_text(encoding="utf-8")


def test_a_long_answer_is_cut_and_counted(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run")
    rows = json.loads(folder.samples.read_text())
    rows[0]["before"] = "x" * 5000
    folder.samples.write_text(json.dumps(rows))
    html = page.render(Material.read(folder))
    assert "x" * 4000 + " ... (1,000 more characters)" in html
