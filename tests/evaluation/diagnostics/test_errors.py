import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.special import softmax

from hf_fusion import FusionSentimentPipeline
from hf_fusion.evaluation.calibration import calibration_error
from hf_fusion.evaluation.diagnostics.collect import row_inputs
from hf_fusion.evaluation.diagnostics.errors import (
    ClipClassErrors,
    ClipErrors,
    ReviewErrors,
    by_length,
    chance_calibration_error,
    scale_temperature,
)


def honest_logits(rows, classes=4, seed=0):
    """Logits of a model that is right as often as it says, and the labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (rows, classes))
    labels = np.array([rng.choice(classes, p=p) for p in softmax(logits, axis=1)])
    return logits, labels


class TestTemperature:
    def test_finds_how_much_too_sure_a_model_is(self):
        logits, labels = honest_logits(4000)
        scaled, temperature = scale_temperature(3 * logits, labels)
        assert temperature == pytest.approx(3, rel=0.1)
        errors = []
        for values in (3 * logits, scaled):
            correct = values.argmax(1) == labels
            errors.append(calibration_error(correct, softmax(values, axis=1).max(1)))
        assert errors[0] > 0.1 > 0.03 > errors[1]
        assert (scaled.argmax(1) == logits.argmax(1)).all()

    def test_no_row_is_judged_by_a_temperature_that_it_shaped(self):
        logits, labels = honest_logits(60)
        changed = labels.copy()
        changed[::2] = (changed[::2] + 1) % 4
        np.testing.assert_array_equal(
            scale_temperature(logits, labels)[0][::2], scale_temperature(logits, changed)[0][::2]
        )

    def test_a_single_row(self):
        scaled, temperature = scale_temperature(np.array([[1.0, 2.0]]), np.array([1]))
        assert temperature == 1 and scaled.tolist() == [[1, 2]]


def examine(diagnosis, logits):
    """The section of a diagnosis that observes these logits."""
    diagnosis.observe(list(range(len(logits))), {"logits": torch.as_tensor(logits, dtype=torch.float32)})
    return diagnosis.report()


def test_a_calibrated_model_that_may_be_unsure(make_model, processor):
    logits, labels = honest_logits(600, classes=5)
    rows = Dataset.from_dict({"text": ["good"] * 600, "labels": labels})
    model = make_model(temperature=4.0, abstain_below=0.6)
    section = examine(ReviewErrors(FusionSentimentPipeline(model, processor=processor, device="cpu"), rows), 4 * logits)
    before, after, coverage, accuracy = section.findings
    assert before.ok and after.ok and section.data["calibration"]["temperature"] == pytest.approx(1, rel=0.25)
    given = softmax(logits, axis=1).max(1) >= 0.6
    assert coverage.value == pytest.approx(given.mean(), abs=1e-2) and coverage.verdict == "info"
    assert accuracy.value == pytest.approx((logits.argmax(1) == labels)[given].mean(), abs=1e-2)


def test_a_model_that_is_too_sure(make_model, processor):
    logits, labels = honest_logits(600, classes=5)
    texts = [" ".join(["good"] * (1 + i % 30)) for i in range(600)]
    rows = Dataset.from_dict({"text": texts, "labels": labels, "source": ["a", "b", "b"] * 199 + ["c"] * 3})
    pipe = FusionSentimentPipeline(make_model(), processor=processor, device="cpu")
    section = examine(ReviewErrors(pipe, rows), 4 * logits)
    before, after = section.findings
    assert before.ok is False and after.ok is True and "corrects it" in after.text
    assert section.data["calibration"]["temperature"] == pytest.approx(4, rel=0.25)
    accuracy = (logits.argmax(1) == labels).mean()
    thirds = section.tables["By length of the text in words"]
    assert [row["length"] for row in thirds] == ["1 to 10", "11 to 20", "21 to 30"]
    assert sum(row["rows"] * row["accuracy"] for row in thirds) == pytest.approx(600 * accuracy)
    assert [row["source"] for row in section.tables["By source"]] == ["a", "b"], "c is too small to say anything"
    worst = section.tables["Worst examples"]
    chances = [row["probability of the true class"] for row in worst]
    assert chances == sorted(chances) and chances[0] == pytest.approx(
        softmax(4 * logits, axis=1)[np.arange(600), labels].min(), rel=1e-3
    )
    assert set(section.figures) == {"confusion", "calibration", "calibration_scaled", "risk_coverage"}
    cells = {text.get_position(): text.get_text() for text in section.figures["confusion"].axes[0].texts}
    predicted = logits.argmax(1)
    assert cells == {(p, t): f"{((labels == t) & (predicted == p)).sum():,}" for p in range(5) for t in range(5)}
    (bars,) = section.figures["calibration"].axes[0].containers
    confidence = softmax(4 * logits, axis=1).max(1)
    last = confidence >= 0.9
    np.testing.assert_allclose(
        bars[0].get_xydata()[-1], [confidence[last].mean(), (logits.argmax(1) == labels)[last].mean()], rtol=1e-4
    )


def test_few_rows_excuse_some_calibration_error(make_model, processor):
    """A calibrated model is not blamed for the chance of 60 rows."""
    logits, labels = honest_logits(60, classes=5)
    error = calibration_error(logits.argmax(1) == labels, softmax(logits, axis=1).max(1))
    limit = chance_calibration_error(softmax(logits, axis=1).max(1))
    assert 0.05 < error < limit < 0.3
    assert chance_calibration_error(np.full(20_000, 0.7)) < 0.01
    rows = Dataset.from_dict({"text": ["good"] * 60, "labels": labels})
    pipe = FusionSentimentPipeline(make_model(), processor=processor, device="cpu")
    assert examine(ReviewErrors(pipe, rows), logits).findings[0].ok


def test_reviews_without_labels(make_model, processor):
    pipe = FusionSentimentPipeline(make_model(), processor=processor, device="cpu")
    assert ReviewErrors(pipe, Dataset.from_dict({"text": ["a"]})).report() is None


@pytest.mark.parametrize("strength", [True, False])
def test_failure_signs_of_scores(clip_model, clip_processor, strength):
    """A model that knows the sign alone, and guesses at zero, shows both signs; one that knows the strength, none."""
    rng = np.random.default_rng(0)
    labels = np.repeat([-3.0, -1.0, 0.0, 1.0, 3.0], 40)
    scores = labels if strength else np.where(labels == 0, -0.3, 0.3 * np.sign(labels))
    rows = Dataset.from_dict({
        "id": [str(i) for i in range(200)], "text": ["good"] * 200, "label": labels.tolist(),
        "audio": [rng.normal(size=(1 + i % 9, 3)).tolist() for i in range(200)],
    })  # fmt: skip
    pipe = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")
    section = examine(ClipErrors(pipe, rows, row_inputs(rows)), scores[:, None])
    assert [finding.ok for finding in section.findings] == [True, strength, strength]
    constant = examine(ClipErrors(pipe, rows, row_inputs(rows)), np.full((200, 1), -0.1)).findings[0]
    assert not constant.ok and "always answering the median label" in constant.text
    assert section.data["metrics"]["mae"] == pytest.approx(0 if strength else (2 * (2.7 + 0.7) + 0.3) / 5, abs=1e-6)
    assert len(section.tables["Worst clips"]) == 8
    axes = section.figures["scores"].axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), np.stack([labels, scores], 1), atol=1e-6)
    assert axes.get_xlim()[0] < -3 and axes.get_ylim()[1] > 3, "the range of the labels"


def test_classes_of_clips(clip_model, clip_processor):
    logits, labels = honest_logits(90, classes=3)
    rows = Dataset.from_dict({"id": [str(i) for i in range(90)], "text": ["good"] * 90, "label": labels.tolist()})
    config = {"id2label": {0: "sad", 1: "calm", 2: "angry"}, "problem_type": "single_label_classification"}
    pipe = FusionSentimentPipeline(clip_model(**config), processor=clip_processor, device="cpu")
    inputs = row_inputs(rows)
    assert not ClipErrors(pipe, rows, inputs).applies
    section = examine(ClipClassErrors(pipe, rows, inputs), 4 * logits)
    right = logits.argmax(1) == labels
    assert section.findings[0].ok and section.data["metrics"]["accuracy"] == pytest.approx(right.mean())
    recalls = {row["class"]: row["recall"] for row in section.tables["Recall of each class"]}
    assert recalls["calm"] == pytest.approx(right[labels == 1].mean())
    worst = section.tables["Worst clips"]
    assert len(worst) == 8 and all(row["true"] != row["predicted"] for row in worst)
    assert worst[0]["probability"] >= worst[1]["probability"] and "confusion" in section.figures
    constant = examine(ClipClassErrors(pipe, rows, inputs), np.tile([[9.0, 0.0, 0.0]], (90, 1))).findings[0]
    assert not constant.ok and "always answering the most frequent class" in constant.text
    several = {**config, "problem_type": "multi_label_classification"}
    pipe = FusionSentimentPipeline(clip_model(**several), processor=clip_processor, device="cpu")
    assert not ClipClassErrors(pipe, rows, inputs).applies


def test_too_few_rows_for_thirds():
    assert by_length(np.arange(30), lambda rows: {}) == []
