import numpy as np
import pytest
from datasets import Array2D, Dataset, Features, List, Value, concatenate_datasets

from hf_fusion.data.arrow_rows import ArrowRows, in_batches, lengths_of, values_of

FEATURES = Features(
    id=Value("string"), audio=Array2D((None, 3), "float32"), input_ids=List(Value("int64")), label=Value("float32")
)


def table(count, seed=0):
    rng = np.random.default_rng(seed)
    rows = {
        "id": [f"{seed}-{i}" for i in range(count)],
        "audio": [rng.normal(size=(i % 4, 3)).astype(np.float32) for i in range(count)],
        "input_ids": [list(range(i % 5)) for i in range(count)],
        "label": [None if i == 2 else i / 4 for i in range(count)],
    }
    return Dataset.from_dict(rows, features=FEATURES)


TABLES = {
    "plain": lambda: table(20),
    "numpy": lambda: table(20).with_format("numpy"),
    "pieces": lambda: concatenate_datasets([table(7), table(9, 1)]),
    "shuffled": lambda: table(20).shuffle(seed=3),
    "sliced": lambda: table(20).select(range(5, 12)),
    "both": lambda: concatenate_datasets([table(7), table(9, 1)]).select([12, 3, 3, 8]),
}


@pytest.mark.parametrize("kind", TABLES)
def test_the_same_rows_as_the_data_set_itself(kind):
    dataset = TABLES[kind]()
    rows, plain = ArrowRows(dataset), dataset.with_format(None)
    assert len(rows) == len(dataset)
    for i in (0, len(dataset) - 1, 2):
        row, expected = rows[i], plain[i]
        np.testing.assert_array_equal(row.pop("audio"), np.reshape(expected.pop("audio"), (-1, 3)))
        assert row == expected
    chosen = [3, 0, 2, 2]
    for row, i in zip(rows.__getitems__(chosen), chosen, strict=True):
        assert row["id"] == plain[i]["id"] and len(row["audio"]) == len(plain[i]["audio"])
    assert [row["id"] for row in in_batches(rows, 3)] == list(plain["id"])
    assert lengths_of(dataset, "audio") == [len(row["audio"]) for row in plain]
    assert lengths_of(dataset, "input_ids") == [len(row["input_ids"]) for row in plain]
    assert values_of(dataset, "label") == list(plain["label"])


def test_frames_are_views():
    row = ArrowRows(table(20))[7]
    assert row["audio"].dtype == np.float32 and not row["audio"].flags.owndata and not row["audio"].flags.writeable


def test_frames_that_are_null():
    dataset = Dataset.from_dict({"audio": [[[1.0, 2.0, 3.0]], None]}, features=Features(audio=FEATURES["audio"]))
    assert ArrowRows(dataset)[1]["audio"] is None and ArrowRows(dataset)[0]["audio"].tolist() == [[1, 2, 3]]
    assert lengths_of(dataset, "audio") == [1, 0]
