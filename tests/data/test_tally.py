import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.data.reviews import ReviewSource, load_reviews
from hf_fusion.data.tally import tallied, tally


def test_counts_add_up_and_end_with_the_statement():
    tally("nobody asks", 3)
    with tallied() as counts:
        tally("texts", 2)
        tally("texts", 1)
        tally("frames", 0)
    tally("texts", 5)
    assert counts == {"texts": 3}


def test_reviews_that_are_left_out(tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"fine {i},{1 + i % 5}" for i in range(20)]
    path.write_text("\n".join(["text,stars", *rows, ",3", '"\u200b",3', "me.mpeg,2", "too good,9"]) + "\n")
    with tallied() as counts:
        load_reviews(ReviewSource(str(path), rejected="drop"))
    assert counts == {
        "rows left out: empty text": 2,
        "rows left out: text is the name of a file": 1,
        "rows left out: rating outside the scale": 1,
    }


def test_clips_that_are_left_out_or_filled(tmp_path):
    frames = [[[1.0, np.nan]], [[np.nan, np.inf]], [[1.0, 2.0]], [[0.5, 0.0]]]
    rows = [
        {"id": str(i), "text": text, "audio": audio, "label": label}
        for i, (text, audio, label) in enumerate(
            zip(["good", "bad", " ", "a.mov"], frames, [1.0, 0.0, -1.0, 0.0], strict=True)
        )
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    source = ClipSource("parquet", rejected="drop", options={"data_files": str(tmp_path / "train.parquet")})
    with tallied() as counts:
        clips = load_clips(source)
    assert sum(map(len, clips.values())) == 3
    assert counts == {
        "audio values were not finite and became 0": 1,
        "clips have no finite audio value, which counts as missing": 1,
        "texts are empty and count as missing": 1,
        "rows left out: a text that is the name of a file": 1,
    }
