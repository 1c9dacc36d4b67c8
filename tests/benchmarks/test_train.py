"""Recipes that are trained in processes of their own."""

import json
import sys
from pathlib import Path

from benchmarks.train import report, train


def test_a_recipe_is_trained_with_so_many_threads_from_a_folder(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$OMP_NUM_THREADS $PWD $*"\necho why >&2\nexit 3\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    said = "-m tunesmith.cli.main train a.yaml --json\n"
    done = train(Path("a.yaml"), 2, tmp_path)
    assert (done.returncode, done.stderr) == (3, "why\n")
    assert done.stdout == f"2 {tmp_path} {said}"
    assert train(Path("a.yaml"), cwd=tmp_path).stdout.startswith("7 ")


def test_the_report_is_read_from_the_folder(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps({"status": "succeeded"}))
    assert report(tmp_path) == {"status": "succeeded"}
