import numpy as np
import pytest
import torch

from hf_fusion import FusionCollator


def test_pads_and_gathers_labels(processor, texts):
    rows = [
        {**processor(text), "labels": i, "intensity_labels": i / 4, "id": "x", "length": 3}
        for i, text in enumerate(texts)
    ]
    batch = FusionCollator(processor)(rows)
    assert set(batch) == {*processor.model_input_names, "labels", "intensity_labels"}
    assert batch["labels"].tolist() == [0, 1, 2, 3] and batch["labels"].dtype == torch.long
    assert batch["intensity_labels"].dtype == torch.float32
    expected = processor(texts, return_tensors="pt")
    assert all(torch.equal(batch[name], values) for name, values in expected.items())


def test_missing_labels_are_marked(processor, texts):
    rows = [dict(processor(text)) for text in texts]
    rows[0] |= {"labels": 2, "intensity_labels": 0.5}
    rows[1] |= {"labels": None, "coarse_labels": None}
    batch = FusionCollator(processor)(rows)
    assert batch["labels"].tolist() == [2, -100, -100, -100]
    assert batch["coarse_labels"].tolist() == [-100] * 4
    assert batch["intensity_labels"].isnan().tolist() == [False, True, True, True]


def test_no_labels(processor, texts):
    assert "labels" not in FusionCollator(processor)([dict(processor(text)) for text in texts])


def test_lengths_for_tensor_cores(processor, texts):
    batch = FusionCollator(processor, pad_to_multiple_of=8)([dict(processor(text)) for text in texts])
    assert batch["input_ids"].shape[1] % 8 == batch["span_ids_b"].shape[1] % 8 == 0


def test_texts_that_were_not_encoded(clip_processor):
    with pytest.raises(ValueError, match="a `text` but no `input_ids`"):
        FusionCollator(clip_processor)([{"text": "good", "audio": np.ones((2, 5)), "labels": 1.0}])
