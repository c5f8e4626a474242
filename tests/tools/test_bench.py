"""The benchmark writes what the site reads. The clock itself is tested with what it times."""

import json

import pytest

from qa_lab.claims import at_least, at_most
from qa_lab.claims.notebooks import ROOT
from qa_lab.guide.bench import load_bench
from tests.tools.bench import __main__ as bench
from tests.tools.bench.comparisons import Result

WORDS = {"en": "A layer", "zh": "一层"}
RESULTS = {
    "layer": Result(WORDS, "s", ours=1.23456, theirs=1.5, goal=at_most(0.9), note=WORDS),
    "decoding": Result(WORDS, "tokens/s", ours=30.0, theirs=20.0, goal=at_least(2), note=WORDS),
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the program on results that are known, with places of its own to write to."""
    monkeypatch.setattr(bench, "benchmarks", lambda rounds: RESULTS if rounds == 15 else {})
    monkeypatch.setattr(bench, "REPORT", tmp_path / "build" / "bench.json")
    monkeypatch.setattr(bench, "RECORD", tmp_path / "docs" / "bench.json")

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["bench", *arguments])
        bench.main()
        return tmp_path

    return run


def test_the_site_reads_what_is_recorded(run, capsys):
    recorded = load_bench(run("--record") / "docs" / "bench.json")
    layer, decoding = recorded.results
    assert (layer.ours, layer.ratio, layer.goal, layer.met) == (1.235, 0.823, at_most(0.9), True)
    assert (decoding.ratio, decoding.goal, decoding.met) == (1.5, at_least(2), False)
    assert recorded.machine["en"] == bench.machine()
    said = capsys.readouterr().out.splitlines()
    assert said[0].split()[-3:] == ["≤", "0.9", "met"]
    assert said[1].split()[-3:] == ["≥", "2", "MISSED"]


def test_only_who_asks_records(run):
    folder = run()
    assert not (folder / "docs").exists()
    assert list(json.loads((folder / "build" / "bench.json").read_text("utf-8"))) == list(RESULTS)


def test_the_report_and_the_record_have_their_places():
    assert bench.REPORT == ROOT / "build" / "bench.json"
    assert bench.RECORD == ROOT / "docs" / "bench.json"
