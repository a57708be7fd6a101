"""scripts/prepare_ravdess.py and scripts/cross_validate.py: recordings to folds, and a recipe in each of them."""

import json

import numpy as np
import pytest
import yaml
from asserts import assert_close
from media_files import harmonic_sound
from tiny_runs import script_here

from hf_fusion.evaluation.kept_predictions import measure_predictions
from hf_fusion.media.extractor import make_extractor, save_extractor
from hf_fusion.models.media_voice import VoiceDescriptors
from hf_fusion.studies.predictions import read_study_predictions

RECIPE = {
    "model_type": "dashfusion", "modalities": ["audio"], "classes": ["calm", "angry"], "hidden_size": 8,
    "num_attention_heads": 2, "num_encoder_layers": 1, "fusion": "concat", "temporal_alignment": False,
    "num_train_epochs": 1, "per_device_train_batch_size": 8, "learning_rate": 0.001, "report_to": "none",
}  # fmt: skip


@pytest.fixture
def prepare(monkeypatch):
    return script_here("prepare_ravdess.py", monkeypatch)


@pytest.fixture
def validate(monkeypatch):
    return script_here("cross_validate.py", monkeypatch)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Frames of every actor, neutral, calm, angry and surprised: anger is high, all others are low."""
    folder = tmp_path_factory.mktemp("frames")
    save_extractor(make_extractor("descriptors", None), folder)
    for actor in range(1, 25):
        for emotion, pitch in ((1, 100), (2, 110), (5, 220), (8, 120)):
            sound = harmonic_sound(0.4, pitch=pitch + actor, seed=actor)
            name = f"03-01-0{emotion}-01-01-01-{actor:02}"
            np.savez(folder / f"{name}.npz", audio=_described(sound))
    np.savez(folder / "03-01-05-01-01-01.npz", audio=np.zeros((8, 23)))  # no name of RAVDESS
    return folder


@pytest.fixture(scope="module")
def folds(frames, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("folds")
        assert script_here("prepare_ravdess.py", monkeypatch)(frames, folder) == 0
    return folder


def _described(sound):
    descriptors = VoiceDescriptors()
    descriptors.feed(sound)
    return descriptors.finish()


def labels_of(fold):
    rows = [line.split(",") for line in (fold / "labels.csv").read_text().splitlines()[1:]]
    return {name: (label, split) for name, label, split, *_ in rows}


def test_other_recordings_are_counted(frames, prepare, tmp_path, capsys):
    assert prepare(frames, tmp_path) == 0
    assert "1 recordings without a name of RAVDESS's speech are left out: 03-01-05-01-01-01" in capsys.readouterr().out


def test_every_actor_is_tested_once_and_in_one_split_of_a_fold(folds):
    tested = []
    for fold in range(5):
        splits = {}
        for name, (_, split) in labels_of(folds / "emotion" / f"fold-{fold}").items():
            splits.setdefault(int(name[-2:]), set()).add(split)
        assert all(len(found) == 1 for found in splits.values()) and len(splits) == 24
        tested += [actor for actor, found in splits.items() if found == {"test"}]
        checked = [actor for actor, found in splits.items() if found == {"validation"}]
        assert sorted(actor % 2 for actor in checked) == [0, 0, 1, 1]
    assert sorted(tested) == list(range(1, 25))


def test_labels_are_those_of_the_names(folds):
    emotions, valence = (labels_of(folds / target / "fold-0") for target in ("emotion", "valence"))
    assert len(emotions) == 96 and len(valence) == 72
    name = "03-01-0{}-01-01-01-07"
    assert [emotions[name.format(i)][0] for i in (1, 2, 5, 8)] == ["neutral", "calm", "angry", "surprised"]
    assert [valence[name.format(i)][0] for i in (1, 2, 5)] == ["0", "0", "-1"] and name.format(8) not in valence


def test_frames_and_settings_are_in_every_fold(folds):
    fold = folds / "valence" / "fold-3"
    assert np.load(fold / "03-01-05-01-01-01-07.npz")["audio"].shape == (8, 23)
    assert json.loads((fold / "media.json").read_text())["audio"] == "descriptors"


def test_a_folder_without_frames(prepare, tmp_path, capsys):
    assert prepare(tmp_path, tmp_path / "out") == 2
    assert "no frames with names of RAVDESS" in capsys.readouterr().err


@pytest.fixture
def arrays(tmp_path):
    """An array file of calm and angry recordings of all actors: every actor has a level of its own, and the first
    column of the face adds 1 for anger."""
    ids = [f"03-01-0{emotion}-01-0{1 + actor % 2}-01-{actor:02}" for actor in range(1, 25) for emotion in (2, 5)]
    rng, angry, lengths = np.random.default_rng(0), np.tile([0, 1], 24), np.tile([5, 7], 24)
    levels = np.repeat(np.arange(1.0, 25), 2)
    frames = np.concatenate([rng.normal(level, 1, (n, 3)) for level, n in zip(levels, lengths, strict=True)])
    face = np.stack([angry + 0.1 * levels, levels], axis=1)
    np.savez(tmp_path / "a.npz", ids=ids, n_frames=lengths, frames=frames.astype("f2"), face=face, other=-face)
    return tmp_path / "a.npz"


def test_frames_and_faces_of_an_array_file(prepare, arrays, tmp_path):
    assert prepare(arrays, tmp_path / "out", "--average", 3, "--face", arrays, "--tables", "face", "other") == 0
    content = np.load(arrays)
    clip = np.load(tmp_path / "out/emotion/fold-2/03-01-05-01-02-01-01.npz")  # the second one
    frames = content["frames"].astype(np.float32)[5:12]
    assert_close(clip["audio"], np.stack([frames[:3].mean(0), frames[3:6].mean(0), frames[6]]))
    assert_close(clip["vision"].tolist(), [[*content["face"][1], *-content["face"][1]]])
    labels = (tmp_path / "out/emotion/fold-2/labels.csv").read_text()
    assert "03-01-05-01-02-01-01,angry,train,Dogs are sitting by the door.,actor-01" in labels


def test_columns_are_standardised_over_each_actor(prepare, arrays, tmp_path):
    assert prepare(arrays, tmp_path / "out", "--face", arrays, "--tables", "face", "--by_actor") == 0
    for actor in ("01", "24"):
        clips = [np.load(path) for path in sorted((tmp_path / "out/clips").glob(f"*-{actor}.npz"))]
        voice = np.concatenate([clip["audio"] for clip in clips])
        assert len(voice) == 12
        assert_close(voice.mean(axis=0).tolist(), [0.0] * 3, atol=1e-5)
        assert_close(voice.std(axis=0).tolist(), [1.0] * 3, atol=1e-5)
        assert_close(
            np.concatenate([clip["vision"] for clip in clips]).tolist(), [[-1.0, 0.0], [1.0, 0.0]], atol=1e-5
        )  # the second is constant


def test_another_call_changes_the_frames(prepare, arrays, frames, tmp_path):
    assert prepare(frames, tmp_path / "out") == 0
    assert prepare(arrays, tmp_path / "out", "--face", arrays, "--tables", "face") == 0
    fold = tmp_path / "out/emotion/fold-0"
    assert {"audio", "vision"} == set(np.load(fold / "03-01-05-01-02-01-01.npz")) and not (fold / "media.json").exists()


def test_a_face_must_be_there(prepare, arrays, frames, tmp_path, capsys):
    assert prepare(frames, tmp_path / "out", "--face", arrays, "--tables", "face") == 2
    assert "no face for 72 recordings, such as 03-01-01-01-01-01-01" in capsys.readouterr().err
    assert prepare(arrays, tmp_path / "out", "--face", arrays, "--tables", "mouth") == 2
    assert "mouth is not a file in the archive" in capsys.readouterr().err
    assert prepare(arrays, tmp_path / "out", "--average", 0) == 2
    assert "--average must be at least 1, got 0" in capsys.readouterr().err


@pytest.fixture(scope="module")
def two_folds(folds, tmp_path_factory):
    """Two folds of two emotions."""
    folder = tmp_path_factory.mktemp("two")
    for number in (0, 1):
        source = folds / "emotion" / f"fold-{number}"
        (target := folder / source.name).mkdir()
        labels = {name: row for name, row in labels_of(source).items() if row[0] in ("calm", "angry")}
        lines = ["id,label,split", *(f"{name},{label},{split}" for name, (label, split) in labels.items())]
        (target / "labels.csv").write_text("\n".join(lines))
        for name in labels:
            (target / f"{name}.npz").symlink_to(source / f"{name}.npz")
    return folder


def test_all_folds_and_seeds_with_a_linear_model(validate, two_folds, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**RECIPE, "load_best_model_at_end": False}))
    command = (recipe, f"voice={two_folds}", "--seeds", 1, 2, "--runs", tmp_path / "runs", "--set", "hidden_size=4")
    assert validate(*command, "--output", tmp_path / "out.json") == 0
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["overrides"] == {"hidden_size": 4} and record["seeds"] == [1, 2] and record["hardware"]["cores"]
    assert record["selection"] == "each run: its last step; linear models: the best penalty on validation"
    voice, linear = record["variants"]["voice"], record["variants"]["linear: voice"]
    accuracy = np.array([[voice["folds"][f"fold-{i}"][seed]["accuracy"] for seed in "12"] for i in (0, 1)])
    assert_close(voice["mean"]["accuracy"], accuracy.mean())
    assert_close(voice["std_folds"]["accuracy"], accuracy.mean(axis=1).std(ddof=1))
    assert_close(voice["std_seeds"]["accuracy"], accuracy.mean(axis=0).std(ddof=1))
    assert linear["mean"]["accuracy"] > 0.9, "anger is high"
    kept = read_study_predictions(tmp_path / record["predictions"]["file"])
    assert len(kept) == 4 and record["predictions"]["rows"] == 40
    for (name, seed, fold, _), predictions in kept.items():
        assert_close(measure_predictions(predictions)["uar"], record["variants"][name]["folds"][fold][str(seed)]["uar"])
    assert_close(linear["difference"]["uar"]["mean"], linear["mean"]["uar"] - voice["mean"]["uar"])
    assert voice["data"]["fold-0"]["rows"] == {"train": 30, "validation": 8, "test": 10}
    run = tmp_path / "runs/voice/fold-1/seed-2"
    assert (run / "model.safetensors").exists() and not list(run.glob("checkpoint-*"))
    before = (run / "metrics.json").stat().st_mtime_ns
    assert validate(*command, "--output", tmp_path / "out.json") == 0
    assert (run / "metrics.json").stat().st_mtime_ns == before, "finished runs are kept"
    assert "voice, fold-1, seed 2: accuracy" in capsys.readouterr().out


def test_spread_over_folds_and_seeds(validate):
    def entry(base=None, **values):
        folds = {fold: {str(seed): {"uar": value} for seed, value in enumerate(row)} for fold, row in values.items()}
        return validate.module.summarize(folds, base)

    first = entry(a=(1, 2), b=(3, 8))
    assert first["mean"] == {"uar": 3.5} and "difference" not in first
    assert_close([first["std_folds"]["uar"], first["std_seeds"]["uar"]], [8**0.5, 4.5**0.5])
    assert first["interval"]["uar"][0] < 1.5 and first["interval"]["uar"][1] > 5.5
    others = [entry(first["folds"], a=(2, 2), b=(7, 6)), entry(first["folds"], a=(9,), b=(14,))]
    assert [other["difference"]["uar"]["mean"] for other in others] == [0.75, 8.0], "one seed against the mean of two"
    others[0]["difference"]["loss"] = {"p": 0.5}  # the second one, a linear model, has none
    entries = dict(zip("xyz", [first, *others], strict=True))
    validate.module.correct_p_values(entries)
    assert others[0]["difference"]["loss"]["p_holm"] == 0.5
    differences = [other["difference"]["uar"] for other in others]
    assert differences[1]["p_holm"] == pytest.approx(2 * differences[1]["p"]), "two comparisons"


def test_scores_have_a_ridge_regression(validate, folds):
    data_args = validate.module.recipe_arguments(
        {**RECIPE, "classes": None, "label_range": [-1.0, 1.0], "dataset": str(folds / "valence/fold-0")}
    )[1]
    assert validate.module.linear_metrics(data_args)["audio"]["corr"] > 0.9


def test_linear_models_of_voice_and_face(validate, prepare, arrays, tmp_path):
    """The face tells calm from angry, the voice does not: without seeds nothing is trained."""
    assert prepare(arrays, tmp_path / "data", "--face", arrays, "--tables", "face") == 0
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**RECIPE, "modalities": ["audio", "vision"]}))
    command = (recipe, f"both={tmp_path / 'data/emotion'}", "--runs", tmp_path / "runs", "--output")
    assert validate(*command, tmp_path / "out.json", "--seeds") == 0
    variants = json.loads((tmp_path / "out.json").read_text())["variants"]
    assert list(variants) == ["linear: both", "linear: both, audio alone", "linear: both, vision alone"]
    accuracy = [entry["mean"]["accuracy"] for entry in variants.values()]
    assert accuracy[2] > 0.9 and accuracy[1] < 0.8
    assert_close(variants["linear: both, audio alone"]["difference"]["accuracy"]["mean"], accuracy[1] - accuracy[0])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [(["voice"], "expected NAME=VALUE, got 'voice'"), (["voice=no/such/folder"], "must have the same folds")],
)
def test_wrong_variants_are_refused(validate, tmp_path, capsys, words, message):
    assert validate("dashfusion_synthetic", *words, "--runs", tmp_path) == 2
    assert message in capsys.readouterr().err
