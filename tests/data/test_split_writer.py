from pathlib import Path

import numpy as np
import pytest
from datasets import Array2D, Features, Value

from hf_fusion.data import split_writer
from hf_fusion.data.split_writer import FRAMES, SplitWriter

COLUMNS = Features(id=Value("string"), audio=FRAMES, vision=FRAMES, source=Value("string"))


def test_rows_lie_in_the_file_of_their_split(tmp_path):
    audio = np.arange(6, dtype=np.float32).reshape(3, 2)
    with SplitWriter(COLUMNS, tmp_path / "arrow") as writer:
        writer.write("train", {"id": "a", "audio": None, "other": 1})
        writer.write("test", {"id": "b", "audio": audio, "source": "web"})
        writer.write("train", {"id": "c", "audio": audio[:1]})
        splits = {split: writer.finish(split) for split in writer.filled}
    assert writer.filled == {"train": {"id", "audio"}, "test": {"id", "audio", "source"}}
    assert list(splits["train"]["id"]) == ["a", "c"] and list(splits["test"]["source"]) == ["web"]
    for rows, shapes in ((splits["train"], [(0, 2), (1, 2)]), (splits["test"], [(3, 2)])):
        assert list(rows.features.items()) == [
            ("id", Value("string")), ("audio", Array2D((None, 2), "float32")), ("source", Value("string")),
        ]  # fmt: skip
        assert [row["audio"].shape for row in rows.with_format("numpy")] == shapes
    assert np.array_equal(splits["test"].with_format("numpy")[0]["audio"], audio)
    assert {path.name for path in (tmp_path / "arrow").iterdir()} == {"train.arrow", "test.arrow"}


def test_rows_are_written_while_others_come(tmp_path, monkeypatch):
    monkeypatch.setattr(split_writer, "_ROWS_AT_A_TIME", 10)
    with SplitWriter(COLUMNS, tmp_path) as writer:
        sizes = []
        for i in range(40):
            writer.write("train", {"id": str(i), "vision": np.full((100, 3), i, np.float32)})
            sizes.append((tmp_path / "train.arrow").stat().st_size)
        assert sizes[39] - sizes[9] > 20 * 100 * 3 * 4, "most of what came after the first ten"
        assert len(writer.finish("train")) == 40


def test_an_error_leaves_no_files(tmp_path):
    with pytest.raises(OSError), SplitWriter(COLUMNS, tmp_path / "arrow") as writer:
        writer.write("train", {"id": "a"})
        raise OSError
    assert not Path(tmp_path / "arrow").exists()
