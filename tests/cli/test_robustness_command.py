"""`hf-fusion robustness` with protocols."""

from types import SimpleNamespace

import pytest

import hf_fusion.architectures.write_protocol as writing
from hf_fusion.cli import robustness
from hf_fusion.cli.main import main
from hf_fusion.data.protocols import PROTOCOLS
from hf_fusion.studies.study import Study


@pytest.fixture
def run_folder(tmp_path):
    (tmp_path / "config.yaml").write_text("model_type: dashfusion\ndataset: synthetic-clips\n")
    return tmp_path


def test_each_protocol_is_described_with_every_defect(capsys):
    assert main(["robustness", "--list_protocols"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for protocol in PROTOCOLS.values():
        assert f"{protocol.name}: {protocol.title}" in text and " ".join(protocol.source.split()) in text
        assert all(" ".join(defect.split()) in text for defect in protocol.defects)
        assert all(condition.name in text for condition in protocol.conditions)
    assert "modes: sound, exact" in text and text.count("the mode exact repeats") == len(PROTOCOLS) - 1


def test_help_names_the_protocols(capsys):
    with pytest.raises(SystemExit):
        main(["robustness", "--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in PROTOCOLS) and "--list_protocols" in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--protocol", "tfr", "--corruptions", "typos"], "--corruptions is used without --protocol only"),
        (["--protocol", "tfr", "--seeds", "2"], "--seeds is used without --protocol only"),
        (["--mode", "exact"], "--mode is used with --protocol only"),
        (["--rates", "0.1"], "--rates is used with --protocol only"),
        (["--protocol", "rain"], "There is no protocol 'rain'"),
        (["--protocol", "fixed", "--rates", "0.5"], "fixed has no rates"),
        (["--protocol", "lnln", "--reference", "nowhere"], "no such study"),
    ],
)
def test_flags_that_exclude_each_other(run_folder, flags, words, capsys):
    assert main(["robustness", str(run_folder), *flags]) == 2
    assert words in capsys.readouterr().err


def test_flags_reach_the_measurement(run_folder, monkeypatch, capsys):
    calls = []

    def write_protocol(checkpoint, data_args, settings, *rest, track):
        calls.append(SimpleNamespace(checkpoint=checkpoint, data_args=data_args, settings=settings, rest=rest))
        cell = {"mean": {"mae": 1.25}, "std": {"mae": 0.5}, "interval": {"mae": [1.0, 1.5]}}
        nothing = {"text": {"positions": 0.0}}
        conditions = {name: {**cell, "complete": name == "0.0", "realised": nothing} for name in ("0.0", "0.5")}
        return {"settings": settings.to_dict(), "title": "LNLN", "main_metrics": ["mae"], "defects": ["a"],
                "conditions": conditions, "summary": {"mean": cell}}, run_folder  # fmt: skip

    monkeypatch.setattr(writing, "write_protocol", write_protocol)
    flags = ["--protocol", "lnln", "--mode", "exact", "--mask_seeds", "3", "4", "--rates", "0", "0.5", "--split",
             "validation", "--reference", "protocols_dashfusion_mosi"]  # fmt: skip
    assert main(["robustness", str(run_folder), *flags]) == 0
    (call,) = calls
    settings = call.settings
    assert (settings.protocol, settings.mode, settings.mask_seeds, settings.rates) == (
        "lnln",
        "exact",
        [3, 4],
        [0, 0.5],
    )
    assert call.data_args.dataset == "synthetic-clips" and call.rest[0] == "validation"
    assert call.rest[-1] == Study.read("protocols_dashfusion_mosi").published
    text = capsys.readouterr().out
    assert "1.250 ± 0.500 [1.000, 1.500]" in text and "1 known defect" in text
    assert "Nothing was lost in 0.5: too few rows" in text


def test_the_two_ways_share_no_flag():
    own = set(robustness._CORRUPTION_FLAGS) & set(robustness._PROTOCOL_FLAGS)
    defaults = {item.name: item.default for item in robustness.RobustnessArguments.__dataclass_fields__.values()}
    assert not own
    for flags in (robustness._CORRUPTION_FLAGS, robustness._PROTOCOL_FLAGS):
        assert all(defaults[name] == value for name, value in flags.items())
