import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.data.parts import find_parts
from hf_fusion.data.prepare import prepare_clips
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


def test_padding_and_values_that_are_missing(tmp_path):
    audio = np.ones((4, 5, 2))
    audio[0, 3:] = audio[1] = 0
    fields = {
        "id": list("abcd"), "raw_text": ["so"] * 4, "regression_labels": [0.0] * 4, "audio": audio,
        "vision": [None, *np.ones((3, 2, 2))], "vision_lengths": [0, 2, 2, 7],
    }  # fmt: skip
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"train": fields}))
    with tallied() as counts:
        load_clips(ClipSource(str(tmp_path / "a.pkl"), split_shares=(1.0, 0.0, 0.0)))
    assert counts == {
        "field 'audio': clips without lengths, whose frames of zeros at an end count as padding": 1,
        "field 'audio': clips with nothing but zeros, which counts as missing": 1,
        "clips have None as vision, which counts as missing": 1,
        "field 'vision': lengths beyond the array, whose frames are all read": 1,
    }


def test_a_prepared_folder_tells_of_its_source(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    rows = [f"{i},{'nan' if i == 3 else 'fine'},{0.5 if i else ''},train" for i in range(20)]
    (folder / "labels.csv").write_text("\n".join(["id,text,label,split", *rows, "t,so,1,test"]))
    for i in (*range(1, 20), "z"):
        np.savez(folder / f"{i}.npz", audio=np.ones((1, 2)), **({} if i == 5 else {"vision": np.ones((1, 2))}))
    prepare_clips(ClipSource(str(folder), rejected="drop", allow_missing_features=True), tmp_path / "prepared")
    with tallied() as counts:
        clips = load_clips(ClipSource(str(tmp_path / "prepared"), split_shares=(0.5, 0.5, 0.0)))
    assert counts == {
        "clips have no file of features": 2,
        "files of features belong to no clip": 1,
        "clips have features, but no vision": 1,
        "texts are NaN or 'nan' and count as missing": 1,
        "rows left out: no label": 1,
        "training rows are drawn for validation, which is missing": len(clips["validation"]),
    }


def test_files_of_a_folder_that_are_left_out(tmp_path):
    for name in ("a.csv", "notes.txt", "settings.json"):
        (tmp_path / name).write_text("text,stars\nfine,4\nbad,1\n")
    with tallied() as counts:
        find_parts([tmp_path])
    assert counts == {"files of .txt or .json are left out": 2}
