import json

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_fusion import FusionSentimentPipeline
from hf_fusion.evaluation.diagnostics import contrastive
from hf_fusion.evaluation.diagnostics.contrastive import contrastive_section, contrastive_training_section

CLIPS = 30


@pytest.fixture
def rows():
    labels = [float(i % 3 - 1) for i in range(CLIPS)]
    return Dataset.from_dict({"id": [str(i) for i in range(CLIPS)], "text": ["good"] * CLIPS, "label": labels})


@pytest.fixture
def pipe(clip_model, clip_processor):
    return FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")


def place(monkeypatch, vectors):
    """Puts clips where a test wants them: in each modality the same vector."""

    def outputs_over(classify, rows, batch_size):
        outputs = {
            f"{name}_embeds": torch.as_tensor(vectors).float() for name in ("text", "audio", "vision", "aligned")
        }
        yield list(range(len(rows))), {}, {**outputs, "present": torch.ones(len(rows), 3, dtype=torch.bool)}

    monkeypatch.setattr(contrastive, "outputs_over", outputs_over)


def verdicts(section):
    return [finding.ok for finding in section.findings]


def test_classes_that_lie_apart(pipe, rows, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    place(monkeypatch, np.eye(16)[np.arange(CLIPS) % 3] + 0.05 * rng.normal(size=(CLIPS, 16)))
    section = contrastive_section(pipe, rows, tmp_path)
    assert verdicts(section) == [True, True]
    found = section.data["contrastive"]
    assert found["positives"] > 0.9 and abs(found["negatives"]) < 0.1
    assert found["alignment"] == pytest.approx(2 - 2 * found["positives"])
    assert section.pictures[0].stat().st_size > 5000


def test_one_point(pipe, rows, monkeypatch, tmp_path):
    place(monkeypatch, np.ones((CLIPS, 16)))
    section = contrastive_section(pipe, rows, tmp_path)
    assert verdicts(section) == [False, False]
    assert section.data["contrastive"]["uniformity"] == pytest.approx(0, abs=1e-5)


def test_classes_that_do_not_show(pipe, rows, monkeypatch, tmp_path):
    place(monkeypatch, np.random.default_rng(0).normal(size=(CLIPS, 16)))
    assert verdicts(contrastive_section(pipe, rows, tmp_path)) == [False, True]


def test_a_real_model(pipe, rows, tmp_path):
    texts = [["good", "bad room", "the bar was fine"][i % 3] for i in range(CLIPS)]
    section = contrastive_section(pipe, rows.remove_columns("text").add_column("text", texts), tmp_path)
    assert section.data["contrastive"]["positives"] == pytest.approx(1, abs=1e-4), "the same text each time"


def test_nothing_to_compare(clip_model, clip_processor, pipe, rows, tmp_path):
    assert contrastive_section(pipe, rows.select([0, 3]), tmp_path) is None, "one class"
    off = FusionSentimentPipeline(clip_model(supervised_contrastive=False), processor=clip_processor, device="cpu")
    assert contrastive_section(off, rows, tmp_path) is None


@pytest.mark.parametrize(("last", "ok"), [(0.7, True), (0.1, False)])
def test_classes_over_training(tmp_path, last, ok):
    assert contrastive_training_section(tmp_path, tmp_path) is None, "no run"
    logs = [
        {"step": step, "similarity_same_class": same, "similarity_other_classes": 0.1}
        for step, same in ((10, 0.3), (20, 0.4), (30, last))
    ]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": logs[:1]}))
    assert contrastive_training_section(tmp_path, tmp_path) is None, "one moment is no course"
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": [*logs, {"step": 30, "eval_loss": 1.0}]}))
    section = contrastive_training_section(tmp_path, tmp_path)
    assert verdicts(section) == [ok, None] and section.findings[0].value == pytest.approx(last - 0.1)
    assert section.findings[1].value == pytest.approx(last - 0.3)
    assert section.data["contrastive_training"]["similarity_same_class"] == [0.3, 0.4, last]
    assert section.pictures[0].stat().st_size > 5000
