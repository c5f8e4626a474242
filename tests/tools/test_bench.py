"""The benchmark writes what the site reads. The clock itself is tested with what it times."""

import json

import pytest
import torch

from qa_lab.claims import at_least, at_most
from qa_lab.claims.notebooks import ROOT
from qa_lab.guide.bench import load_bench
from qa_lab.transformer.decoding import LanguageReader, generate
from qa_lab.transformer.models.presets import gpt2
from tests.comparing import assert_identical
from tests.tools.bench import __main__ as bench
from tests.tools.bench.bare import bare_loop
from tests.tools.bench.comparisons import Result


def test_the_bare_loop_writes_what_the_lab_writes():
    torch.manual_seed(0)
    model = gpt2(vocab_size=29, d_model=24, n_heads=3, d_ff=31, n_layers=2, max_length=40).eval()
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn_like(parameter))
    prompt = torch.randint(29, (1, 5))
    ours = generate(LanguageReader(model), prompt, end_id=None, pad_id=0, max_new_tokens=20)
    assert_identical(bare_loop(model)(prompt, 20), ours)
    assert len(set(ours[0].tolist())) > 1


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
