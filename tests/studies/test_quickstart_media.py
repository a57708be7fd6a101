"""The quickstart for media: from nothing to a checkpoint that predicts a video, in small."""

import csv

import pytest

pytest.importorskip("av")

from tiny_runs import script_here

from hf_fusion import FusionSentimentPipeline
from hf_fusion.studies import quickstart_media as steps
from hf_fusion.studies.quickstart import train_quickstart
from hf_fusion.utils.errors import RecipeError


def test_from_nothing_to_a_curve(tmp_path, monkeypatch):
    """Two commands: what the first one does, and the second as it is printed."""
    folder, shares = tmp_path / "quickstart", []
    steps.write_examples(folder, talks=10)
    steps.prepare_examples(folder, False, lambda share, seconds: shares.append(share))
    assert shares[-1] == 1
    run = steps.media_run(folder, ["--num_train_epochs", "8", "--report_to", "none"])
    metrics = train_quickstart([run], lambda run, epochs: None)[run.name]
    baselines, clips = steps.media_baselines(run)
    assert metrics["mae"] < 0.8 * baselines["mean"]["mae"]
    assert baselines["ridge regression"]["mae"] < baselines["mean"]["mae"] and len(clips["test"]) == 20
    model = FusionSentimentPipeline.from_pretrained(run.folder, device="cpu").model
    assert model.config.modalities == ("text", "audio")

    monkeypatch.chdir(tmp_path)
    predict = script_here("predict", monkeypatch)
    arguments = ["--window", 4, "--hop", 1, "-o", "curve.csv", "--plot", "curve.png"]
    assert predict(folder / steps.EXAMPLE, "-c", run.folder, *arguments) == 0
    with open("curve.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["score"]) for row in rows if row["score"]]
    assert scores[0] < scores[-1], "it begins badly and ends well"
    assert any(not row["label"] for row in rows), "the silence"
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_removes_its_own_files_alone(tmp_path):
    folder = tmp_path / "quickstart_media"
    steps.remove_previous(folder)
    (folder / "videos").mkdir(parents=True)
    (folder / "talk.mp4").touch()
    steps.remove_previous(folder)
    assert not folder.exists()
    (folder / "thesis").mkdir(parents=True)
    with pytest.raises(RecipeError, match="holds 'thesis', which is not of the quickstart"):
        steps.remove_previous(folder)
    assert (folder / "thesis").exists()
