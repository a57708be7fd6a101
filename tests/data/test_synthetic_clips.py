import numpy as np
import pytest
from datasets import Array2D, ClassLabel, List, Value

from hf_fusion.data.synthetic_clips import generate_clip, synthetic_clips
from hf_fusion.data.synthetic_reviews import OPINIONS
from hf_fusion.utils.errors import DataError

STRENGTHS = {word: strength for strength, words in OPINIONS.items() for word in words}
RATES = {"audio": 8, "vision": 4}


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(11)
    return [generate_clip(rng) for _ in range(1500)]


def words_of_frames(clip, name):
    """For each frame the place of the word that is spoken in its middle."""
    middles = (np.arange(len(clip[name])) + 0.5) / RATES[name]
    return np.array([max(i for i, begin in enumerate(clip["word_times"][:-1]) if begin <= time) for time in middles])


def mark(clip, name, place):
    """The mean of the first feature while a word is spoken."""
    return clip[name][words_of_frames(clip, name) == place, 0].mean()


def strengths(clip):
    words = clip["text"].split()
    return [STRENGTHS[words[place]] for place in clip["opinions"]]


def test_labels_are_what_the_rule_says(clips):
    for clip in clips:
        strength = STRENGTHS[clip["text"].split()[clip["emphasis"]]]
        assert clip["label"] == (-strength if clip["sarcastic"] else strength)
    assert {clip["label"] for clip in clips} == {-3, -2, -1, 1, 2, 3}
    assert np.mean([clip["sarcastic"] for clip in clips]) == pytest.approx(0.3, abs=0.04)


def test_label_sets_are_what_the_rule_says(clips):
    for clip in clips:
        wry = [mark(clip, "vision", place) > 0.5 for place in clip["opinions"]]
        if wry[clip["opinions"].index(clip["emphasis"])] != clip["sarcastic"]:
            continue  # noise hides the mark
        meant = [-value if face else value for value, face in zip(strengths(clip), wry, strict=True)]
        applies = [max(meant) == 3, min(meant) == -3, any(wry)]
        clip["is_rule"] = clip["labels"] == [i for i, there in enumerate(applies) if there]
    assert np.mean([clip.get("is_rule", False) for clip in clips]) > 0.9


def test_label_sets_take_the_place_of_scores():
    sizes = {"num_train": 20, "num_validation": 1, "num_test": 1}
    scores, sets = synthetic_clips(**sizes), synthetic_clips(**sizes, several_labels=True)
    assert sets["train"].features["label"] == List(ClassLabel(names=["praise", "complaint", "sarcasm"]))
    assert scores["train"].remove_columns("label")[:] == sets["train"].remove_columns("label")[:]
    with pytest.raises(DataError, match="`several_labels` must be true or false, got 1"):
        synthetic_clips(several_labels=1)


def test_opinions_are_the_words_with_a_strength(clips):
    for clip in clips:
        words = clip["text"].split()
        assert clip["opinions"] == [i for i, word in enumerate(words) if word in STRENGTHS]
        assert len(clip["opinions"]) in (2, 3) and clip["emphasis"] in clip["opinions"]
        assert len(clip["word_times"]) == len(words) + 1 and clip["word_times"][0] == 0


@pytest.mark.parametrize("name", RATES)
def test_frames_follow_the_rate(clips, name):
    for clip in clips:
        assert len(clip[name]) == np.ceil(clip["word_times"][-1] * RATES[name])
        assert clip[name].dtype == np.float32 and clip[name].shape[1] == 8 and np.isfinite(clip[name]).all()


def test_tempo_differs_from_clip_to_clip_and_from_word_to_word(clips):
    lengths = [np.delete(np.diff(clip["word_times"]), clip["opinions"]) for clip in clips]  # of words like "bar"
    assert min(map(np.min, lengths)) > 0.1
    assert np.std(list(map(np.mean, lengths))) > 0.055, "a steady tempo with uneven words gives 0.04"
    assert np.mean([values.std() / values.mean() for values in lengths]) > 0.08


@pytest.mark.parametrize("name", RATES)
def test_every_opinion_has_a_frame(clips, name):
    for clip in clips:
        assert set(clip["opinions"]) <= set(words_of_frames(clip, name))


def test_the_voice_is_loud_at_the_opinion_that_counts(clips):
    louder = [
        mark(clip, "audio", clip["emphasis"]) - mark(clip, "audio", place)
        for clip in clips
        for place in clip["opinions"]
        if place != clip["emphasis"]
    ]
    assert np.mean(louder) == pytest.approx(1, abs=0.05) and np.quantile(louder, 0.01) > 0.4


def test_the_voice_is_loud_at_words_that_are_no_opinion_too(clips):
    louder = []
    for clip in clips:
        level = np.mean([mark(clip, "audio", place) for place in clip["opinions"] if place != clip["emphasis"]])
        others = set(words_of_frames(clip, "audio")) - set(clip["opinions"])
        louder += [mark(clip, "audio", place) - level for place in others]
    assert 0.25 < np.mean(np.array(louder) > 0.5) < 0.55


def test_the_face_is_wry_where_the_opinion_that_counts_is_not_meant(clips):
    wry = [mark(clip, "vision", clip["emphasis"]) for clip in clips if clip["sarcastic"]]
    straight = [mark(clip, "vision", clip["emphasis"]) for clip in clips if not clip["sarcastic"]]
    assert np.mean(wry) == pytest.approx(1, abs=0.05) and np.mean(straight) == pytest.approx(0, abs=0.05)
    rest = [mark(clip, "vision", i) for clip in clips for i in clip["opinions"] if i != clip["emphasis"]]
    assert np.mean(np.array(rest) > 0.5) == pytest.approx(0.3, abs=0.06), "and as often where it does not count"


@pytest.fixture(scope="module")
def sounds(clips):
    """The sound of each word as each stream has it: the strongest of the features 2 to 7, on average."""
    sums = {name: {} for name in RATES}
    for clip in clips:
        words = clip["text"].split()
        for name, total in sums.items():
            for place, frame in zip(words_of_frames(clip, name), clip[name], strict=True):
                total[words[place]] = total.get(words[place], 0) + frame[2:]
    return {name: {word: int(np.argmax(values)) for word, values in total.items()} for name, total in sums.items()}


class TestSounds:
    def test_voice_and_mouth_agree(self, sounds):
        assert sounds["audio"] == sounds["vision"] and set(sounds["audio"].values()) == set(range(6))

    def test_each_has_opinions_of_either_polarity(self, sounds):
        for sound in range(6):
            shared = [STRENGTHS[word] for word in STRENGTHS if sounds["audio"].get(word) == sound]
            assert min(shared) < 0 < max(shared)

    def test_no_two_opinions_of_a_clip_share_one(self, clips, sounds):
        for clip in clips:
            words = clip["text"].split()
            assert len({sounds["audio"][words[place]] for place in clip["opinions"]}) == len(clip["opinions"])


def best_error(clips, knowledge):
    """The mean absolute error of the best guess for clips that look alike."""
    alike = {}
    for clip in clips:
        alike.setdefault(knowledge(clip), []).append(clip["label"])
    return sum(np.abs(labels - np.median(labels)).sum() for labels in alike.values()) / len(clips)


def test_it_takes_text_voice_and_face(clips):
    def text(clip):
        return tuple(sorted(strengths(clip)))

    def text_and_voice(clip):
        return STRENGTHS[clip["text"].split()[clip["emphasis"]]]

    assert best_error(clips, lambda clip: np.mean(strengths(clip))) > 1.2
    assert best_error(clips, text) > 1
    assert best_error(clips, text_and_voice) > 1
    assert best_error(clips, lambda clip: (text_and_voice(clip), clip["sarcastic"])) == 0


class TestCorpus:
    SIZES = {"num_train": 30, "num_validation": 7, "num_test": 9}

    def test_columns_and_sizes(self):
        corpus = synthetic_clips(**self.SIZES)
        assert {split: len(rows) for split, rows in corpus.items()} == {"train": 30, "validation": 7, "test": 9}
        features = corpus["test"].features
        assert features["audio"] == features["vision"] == Array2D((None, 8), "float32")
        assert features["label"] == Value("float32") and {"opinions", "emphasis", "sarcastic"} <= set(features)
        ids = [clip_id for rows in corpus.values() for clip_id in rows["id"]]
        assert len(set(ids)) == len(ids) == 46

    def test_rows_hold_what_was_generated(self):
        rng = np.random.default_rng(4)
        for row in synthetic_clips(5, 0, 0, seed=4)["train"].with_format("numpy"):
            clip = generate_clip(rng)
            assert row["text"] == clip["text"] and row["label"] == clip["label"]
            assert np.array_equal(row["audio"], clip["audio"]) and np.array_equal(row["vision"], clip["vision"])
            assert row["emphasis"] == clip["emphasis"] and row["sarcastic"] == clip["sarcastic"]

    def test_depends_on_the_seed_alone(self):
        first, again, other = (synthetic_clips(**self.SIZES, seed=seed) for seed in (1, 1, 2))
        for split in first:
            assert first[split][:] == again[split][:] != other[split][:]

    def test_splits_differ(self):
        corpus = synthetic_clips(50, 50, 50)
        texts = [set(rows["text"]) for rows in corpus.values()]
        assert all(len(one & other) < 10 for one in texts for other in texts if one is not other)

    @pytest.mark.parametrize("sarcastic", [True, False])
    def test_only_sarcastic_clips_or_none(self, sarcastic):
        for rows in synthetic_clips(**self.SIZES, sarcastic=sarcastic).values():
            assert set(rows["sarcastic"]) == {sarcastic}

    @pytest.mark.parametrize("sarcastic", ["yes", 1, 1.0])
    def test_sarcasm_is_yes_or_no(self, sarcastic):
        with pytest.raises(DataError, match=f"true, false or null, got {sarcastic!r}"):
            synthetic_clips(**self.SIZES, sarcastic=sarcastic)
