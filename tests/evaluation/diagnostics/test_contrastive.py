import json

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, List

from hf_fusion import FusionSentimentPipeline
from hf_fusion.evaluation.diagnostics.collect import observe_rows, row_inputs
from hf_fusion.evaluation.diagnostics.contrastive import ContrastiveDiagnosis, contrastive_training_section

CLIPS = 30


@pytest.fixture
def rows():
    labels = [float(i % 3 - 1) for i in range(CLIPS)]
    return Dataset.from_dict({"id": [str(i) for i in range(CLIPS)], "text": ["good"] * CLIPS, "label": labels})


@pytest.fixture
def pipe(clip_model, clip_processor):
    return FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")


def examine(pipe, rows, vectors=None):
    """The section for clips that lie where a test wants them: in each modality the same vector."""
    diagnosis = ContrastiveDiagnosis(pipe, rows)
    if vectors is None:
        observe_rows(pipe, row_inputs(rows), [diagnosis])
        return diagnosis.report()
    outputs = {f"{name}_embeds": torch.as_tensor(vectors).float() for name in ("text", "audio", "vision", "aligned")}
    diagnosis.observe(list(range(len(rows))), {**outputs, "present": torch.ones(len(rows), 3, dtype=torch.bool)})
    return diagnosis.report()


def verdicts(section):
    return [finding.ok for finding in section.findings]


def test_classes_that_lie_apart(pipe, rows):
    rng = np.random.default_rng(0)
    section = examine(pipe, rows, np.eye(16)[np.arange(CLIPS) % 3] + 0.05 * rng.normal(size=(CLIPS, 16)))
    assert verdicts(section) == [True, None, True, None]
    found = section.data["contrastive"]
    assert found["positives"] > 0.9 and abs(found["negatives"]) < 0.1
    assert found["alignment"] == pytest.approx(2 - 2 * found["positives"])
    assert found["order"] > 0.95 and "classes show in it" in section.text
    histogram, scatter, _ = section.figures["contrastive_space"].axes
    assert scatter.collections[0].get_clim() == (-3, 3) and histogram.get_xlim() == (-1, 1)


def test_clips_with_the_same_labels_are_of_one_class(clip_model, clip_processor, rows):
    model = clip_model(num_labels=2, problem_type="multi_label_classification")
    pipe = FusionSentimentPipeline(model, processor=clip_processor, device="cpu")
    sets = [[[], [1], [0, 1]][i % 3] for i in range(CLIPS)]
    rows = rows.remove_columns("label").add_column("label", sets, feature=List(ClassLabel(names=["a", "b"])))
    section = examine(pipe, rows, np.eye(16)[np.arange(CLIPS) % 3])
    assert section.data["contrastive"]["positives"] == pytest.approx(1, abs=1e-5)
    assert section.data["contrastive"]["negatives"] == pytest.approx(0, abs=1e-5)


def test_one_point(pipe, rows):
    section = examine(pipe, rows, np.ones((CLIPS, 16)))
    assert verdicts(section) == [False, None, False, None]
    assert section.data["contrastive"]["uniformity"] == pytest.approx(0, abs=1e-5)


def test_classes_that_do_not_show(pipe, rows):
    section = examine(pipe, rows, np.random.default_rng(0).normal(size=(CLIPS, 16)))
    assert verdicts(section) == [False, None, True, None] and section.findings[0].text == "classes mix in the space"
    assert section.findings[0].value == pytest.approx(0.5, abs=0.1) and "classes do not show in it" in section.text


def test_classes_that_the_projection_hides(pipe, rows):
    """The check sees what the scatter cannot show, and the text says so."""
    rng = np.random.default_rng(0)
    classes = np.eye(40)[np.arange(CLIPS) % 3]
    noise = np.zeros((CLIPS, 40))
    noise[:, 10:12] = rng.normal(size=(CLIPS, 2)) * 0.8  # more variance than the classes have
    section = examine(pipe, rows, classes * 0.8 + noise)
    assert section.findings[0].ok and section.findings[1].value < 0.7
    assert "the histogram tells more than the projection" in section.text


def test_a_real_model(pipe, rows):
    texts = [["good", "bad room", "the bar was fine"][i % 3] for i in range(CLIPS)]
    section = examine(pipe, rows.remove_columns("text").add_column("text", texts))
    assert section.data["contrastive"]["positives"] == pytest.approx(1, abs=1e-4), "the same text each time"


def test_nothing_to_compare(clip_model, clip_processor, pipe, rows):
    assert examine(pipe, rows.select([0, 3])) is None, "one class"
    off = FusionSentimentPipeline(clip_model(supervised_contrastive=False), processor=clip_processor, device="cpu")
    assert examine(off, rows) is None


@pytest.mark.parametrize(("last", "ok"), [(0.7, True), (0.1, False)])
def test_classes_over_training(tmp_path, last, ok):
    assert contrastive_training_section(tmp_path) is None, "no run"
    logs = [
        {"step": step, "similarity_same_class": same, "similarity_other_classes": 0.1}
        for step, same in ((10, 0.3), (20, 0.4), (30, last))
    ]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": logs[:1]}))
    assert contrastive_training_section(tmp_path) is None, "one moment is no course"
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": [*logs, {"step": 30, "eval_loss": 1.0}]}))
    section = contrastive_training_section(tmp_path)
    assert verdicts(section) == [ok, None] and section.findings[0].value == pytest.approx(last - 0.1)
    assert section.findings[1].value == pytest.approx(last - 0.3)
    assert section.data["contrastive_training"]["similarity_same_class"] == [0.3, 0.4, last]
    lines = {line.get_label(): list(line.get_ydata()) for line in section.figures["contrastive_training"].axes[0].lines}
    assert lines == {"one class": [0.3, 0.4, last], "two classes": [0.1, 0.1, 0.1]}
