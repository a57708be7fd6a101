import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

NAN = float("nan")
ROWS = 4


@pytest.fixture
def reviews(make_model, processor, texts):
    """A DyFuLM and its inputs of four rows."""
    model = make_model(loss_weighting="fixed", intensity_range=(0.0, 1.0))
    return model, dict(processor(texts, return_tensors="pt"))


@pytest.fixture
def spoken(clip_model):
    """A DashFusion for a problem, and its inputs of four rows."""

    def make(**fields):
        return clip_model(contrastive_weight=0.0, **fields), {"input_ids": torch.randint(5, 90, (ROWS, 6))}

    return make


class TestClasses:
    @pytest.mark.parametrize("column", [False, True], ids=["(batch,)", "(batch,1)"])
    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.float32, torch.float64])
    @pytest.mark.parametrize("architecture", ["dyfulm", "dashfusion"])
    def test_shapes_and_types(self, reviews, spoken, architecture, dtype, column):
        model, inputs = spoken(num_labels=3, problem_type="single_label_classification")
        model, inputs = reviews if architecture == "dyfulm" else (model, inputs)
        classes = torch.tensor([2, 0, 1, 1])
        outputs = model(**inputs, labels=(classes[:, None] if column else classes).to(dtype))
        loss = outputs.fine_loss if architecture == "dyfulm" else outputs.prediction_loss
        torch.testing.assert_close(loss, cross_entropy(outputs.logits, classes))

    @pytest.mark.parametrize("labels", [[2, -100, 1, 0], [2.0, NAN, 1.0, 0.0]], ids=["-100", "nan"])
    def test_missing(self, spoken, labels):
        model, inputs = spoken(num_labels=3, problem_type="single_label_classification")
        outputs = model(**inputs, labels=torch.tensor(labels))
        kept = [0, 2, 3]
        expected = cross_entropy(outputs.logits[kept], torch.tensor([2, 1, 0]))
        torch.testing.assert_close(outputs.prediction_loss, expected)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [([0, 1, 3, 2], "value 3 in row 2"), ([0, -1, 1, 1], "value -1 in row 1"), ([0.0, 1.5, 1.0, 1.0], "1.5 in row"),
         ([1, 2, 0], r"shape \(3,\)"), ([[1, 0, 0]] * 4, r"shape \(4, 3\)"), (1, r"shape \(\)"),
         ([float("inf"), 1.0, 1.0, 1.0], "value inf in row 0")],
    )  # fmt: skip
    def test_others_are_refused(self, spoken, reviews, labels, message):
        model, inputs = spoken(num_labels=3, problem_type="single_label_classification")
        with pytest.raises(ValueError, match=f"`labels` has the {message}|`labels` has the value {message}"):
            model(**inputs, labels=torch.tensor(labels))
        model, inputs = reviews
        with pytest.raises(ValueError, match="`coarse_labels` has the"):
            model(**inputs, coarse_labels=torch.tensor(labels))

    @pytest.mark.parametrize("wrong", [torch.full((ROWS, 5), 0.2), torch.tensor([0, 1, 2, 5])], ids=["soft", "beyond"])
    def test_fine_labels(self, reviews, wrong):
        model, inputs = reviews
        with pytest.raises(ValueError, match="`labels` has the"):
            model(**inputs, labels=wrong)


class TestScores:
    @pytest.mark.parametrize("column", [False, True], ids=["(batch,)", "(batch,1)"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64, torch.int8])
    def test_shapes_and_types(self, reviews, spoken, dtype, column):
        scores = torch.tensor([1, 0, 1, 1])
        given = (scores[:, None] if column else scores).to(dtype)
        model, inputs = spoken()
        outputs = model(**inputs, labels=given)
        torch.testing.assert_close(outputs.prediction_loss, ((outputs.logits[:, 0] - scores) ** 2).mean())
        model, inputs = reviews
        outputs = model(**inputs, intensity_labels=given)
        torch.testing.assert_close(outputs.intensity_loss, ((outputs.intensity - scores) ** 2).mean())

    @pytest.mark.parametrize("missing", [NAN, -100, -100.0])
    def test_missing(self, reviews, spoken, missing):
        scores = torch.tensor([1, missing, 0, 1])
        model, inputs = spoken()
        outputs = model(**inputs, labels=scores)
        expected = (outputs.logits[[0, 2, 3], 0] - torch.tensor([1.0, 0.0, 1.0])) ** 2
        torch.testing.assert_close(outputs.prediction_loss, expected.mean())
        model, inputs = reviews
        outputs = model(**inputs, intensity_labels=scores)
        expected = (outputs.intensity[[0, 2, 3]] - torch.tensor([1.0, 0.0, 1.0])) ** 2
        torch.testing.assert_close(outputs.intensity_loss, expected.mean())

    @pytest.mark.parametrize(
        ("labels", "message"),
        [(torch.zeros(3), r"shape \(3,\)"), (torch.zeros(1, ROWS), r"shape \(1, 4\)"), (torch.zeros(4, 4), "shape"),
         (torch.tensor([0.5, 0.5, 5.0, 0.5]), "value 5 in row 2"), (-torch.ones(4), "value -1 in row 0")],
    )  # fmt: skip
    def test_other_intensities_are_refused(self, reviews, labels, message):
        model, inputs = reviews
        with pytest.raises(ValueError, match=f"`intensity_labels` has the {message}"):
            model(**inputs, intensity_labels=labels)

    def test_infinite(self, spoken):
        model, inputs = spoken()
        assert model(**inputs, labels=torch.tensor([0.0, float("inf"), 1.0, 1.0])).prediction_loss.isinf()


class TestSeveral:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool])
    def test_types(self, spoken, dtype):
        model, inputs = spoken(num_labels=3, problem_type="multi_label_classification")
        labels = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]])
        outputs = model(**inputs, labels=labels.to(dtype))
        torch.testing.assert_close(
            outputs.prediction_loss, binary_cross_entropy_with_logits(outputs.logits, labels.float())
        )

    @pytest.mark.parametrize(
        ("labels", "message"),
        [(torch.tensor([[0, 2, 0]] * ROWS), "value 2 in row 0"), (torch.zeros(ROWS), r"shape \(4,\)"),
         (torch.zeros(ROWS, 2), r"shape \(4, 2\)")],
    )  # fmt: skip
    def test_others_are_refused(self, spoken, labels, message):
        model, inputs = spoken(num_labels=3, problem_type="multi_label_classification")
        with pytest.raises(ValueError, match=f"`labels` has the {message}"):
            model(**inputs, labels=labels)


@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification"])
def test_a_dyfulm_has_one_problem(reviews, make_config, problem_type):
    model, inputs = reviews
    model.config.problem_type = problem_type
    with pytest.raises(ValueError, match=f"`problem_type` must be None .* got '{problem_type}'"):
        model(**inputs, labels=torch.tensor([0, 1, 2, 3]))
    with pytest.raises(ValueError, match="`problem_type`"):
        type(model)(model.config)


def test_a_graph_does_not_look_at_values(spoken):
    """Checks of values would end a graph, or be baked into it."""
    model, inputs = spoken(num_labels=3, problem_type="single_label_classification")

    class Loss(nn.Module):
        def forward(self, labels):
            return model(**inputs, labels=labels).prediction_loss

    model.requires_grad_(False).config.semantic_alignment = False
    model.config.supervised_contrastive = False
    graph = torch.export.export(Loss(), (torch.tensor([0, 1, 2, 0]),), strict=False).module()
    labels = torch.tensor([2, 2, 1, 1])
    torch.testing.assert_close(graph(labels), Loss()(labels))
