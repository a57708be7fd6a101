import numpy as np
import pytest
import torch
from datasets import Array2D, Dataset, Features, Value

from hf_fusion.architectures import architecture_of
from hf_fusion.architectures.outputs import compute_outputs
from hf_fusion.architectures.rows import take_truncated
from hf_fusion.data.arrow_rows import ArrowRows, in_batches
from hf_fusion.data.collator import FusionCollator
from hf_fusion.utils.errors import DataError


@pytest.fixture
def encode():
    """Encodes rows as training does."""
    return lambda model, rows, processor: take_truncated(
        architecture_of(model.config).encode(Dataset.from_dict(*rows), processor)
    )[0]


@pytest.fixture
def reviews(texts):
    return ({"id": list("abcd"), "text": texts, "labels": [0, None, 2, 1], "intensity_labels": [0.1, 0.2, None, 1.0]},)


@pytest.fixture
def clip_rows(clips):
    streams = {"audio": Array2D((None, 3), "float32"), "vision": Array2D((None, 5), "float32")}
    features = Features({"id": Value("string"), "text": Value("string"), "label": Value("float32"), **streams})
    return {"id": list("abcde"), "label": [0.0, 1.0, 2.0, -1.0, 3.0], **clips}, features


def forward_alone(model, processor, encoded):
    """The outputs of each row in a batch of its own."""
    collate = FusionCollator(processor)
    names = list(model.config.heads)
    rows = []
    for row in in_batches(ArrowRows(encoded)):
        batch = {name: value for name, value in collate([row]).items() if "label" not in name}
        with torch.no_grad():
            rows.append(model.eval()(**batch))
    return {name: np.concatenate([row[name].numpy() for row in rows]) for name in names}


def check_outputs(model, processor, encoded, batch_size):
    outputs = compute_outputs(model, processor, encoded, batch_size)
    expected = forward_alone(model, processor, encoded)
    assert list(outputs) == list(model.config.heads)
    for name, values in outputs.items():
        assert values.dtype == np.float32 and values.shape == expected[name].shape
        np.testing.assert_allclose(values, expected[name], atol=1e-5)
    return outputs


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_reviews_get_the_outputs_of_all_heads_in_their_order(make_model, processor, reviews, encode, batch_size):
    model = make_model()
    encoded = encode(model, reviews, processor)
    outputs = check_outputs(model, processor, encoded, batch_size)
    assert {name: values.shape for name, values in outputs.items()} == {
        "logits": (4, 5), "coarse_logits": (4, 3), "intensity": (4,),
    }  # fmt: skip


@pytest.mark.parametrize("fields", [{}, {"num_labels": 4}])
def test_clips_with_absent_modalities(clip_model, clip_processor, clip_rows, encode, fields):
    model = clip_model(**fields)
    encoded = encode(model, clip_rows, clip_processor)
    outputs = check_outputs(model, clip_processor, encoded, 2)
    assert outputs["logits"].shape == (5, fields.get("num_labels", 1))


def test_the_longest_rows_come_first(make_model, processor, reviews, encode):
    model = make_model()
    encoded = encode(model, reviews, processor)
    seen = []

    def track(batches):
        assert len(batches) == 2
        for numbers in batches:
            seen.append(numbers.tolist())
            yield numbers

    compute_outputs(model, processor, encoded, 2, track)
    lengths = [encoded["length"][i] for numbers in seen for i in numbers]
    assert lengths == sorted(encoded["length"], reverse=True) and lengths != list(encoded["length"])


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_of_the_model_stays(make_model, processor, reviews, encode, training):
    model = make_model()
    encoded = encode(model, reviews, processor)
    expected = compute_outputs(model, processor, encoded)
    model.train(training)
    outputs = compute_outputs(model, processor, encoded)
    assert model.training == training
    np.testing.assert_array_equal(outputs["logits"], expected["logits"])


def test_rows_without_input_and_broken_weights_are_refused(make_model, processor, reviews, encode):
    model = make_model()
    encoded = encode(model, reviews, processor)
    lengths = [5, 0, 5, 0]
    with pytest.raises(DataError, match=r"2 of 4 rows have no input for the model \(the first one is row 2\)"):
        compute_outputs(model, processor, encoded.remove_columns("length").add_column("length", lengths))
    with torch.no_grad():
        model.get_parameter(next(name for name, _ in model.named_parameters() if "coarse" in name)).fill_(torch.nan)
    with pytest.raises(DataError, match=r"`.*logits` of row 1 is not finite"):
        compute_outputs(model, processor, encoded)
