import re

import numpy as np
import pytest

from hf_fusion.data.synthetic_reviews import (
    CONTRAST_WEIGHTS,
    CONTRASTS,
    FILLERS,
    INTENSIFIERS,
    NEGATION_FACTOR,
    NEGATIONS,
    OPINIONS,
    synthetic_reviews,
)
from hf_fusion.evaluation.baselines import bag_of_words_baseline


def strength_of(statement):
    """Reads a statement the way the module's documentation says, not the way it is generated."""
    words = re.sub(r"^(the|The) .+? was ", "", statement)
    factor = 1.0
    negation = next((n for n in NEGATIONS if words.startswith(n + " ")), None)
    if negation:
        factor, words = NEGATION_FACTOR, words.removeprefix(negation + " ")
    for value, names in INTENSIFIERS.items():
        for name in names:
            if name and words.startswith(name + " "):
                factor, words = factor * value, words.removeprefix(name + " ")
    (strength,) = [value for value, names in OPINIONS.items() if words in names]
    return float(np.clip(strength * factor, -3, 3))


def score_of(text):
    sentences = [s for s in text.rstrip(".").split(". ") if s.lower() not in {f.lower() for f in FILLERS}]
    values = []
    for sentence in sentences:
        halves = next(
            (m.groups() for c in CONTRASTS if (m := re.fullmatch(c.format("(.+)", "(.+)"), sentence, re.IGNORECASE))),
            None,
        )
        values.append(np.dot(CONTRAST_WEIGHTS, [strength_of(h) for h in halves]) if halves else strength_of(sentence))
    return (np.mean(values) + 3) / 6


def test_scores_are_what_the_rules_say():
    data = synthetic_reviews(300, 50, 50, seed=3)
    for row in data["train"]:
        assert row["score"] == pytest.approx(score_of(row["text"]), abs=1e-6), row["text"]


def test_is_seeded_and_without_duplicates():
    first, again, other = (synthetic_reviews(200, 50, 50, seed=seed) for seed in (1, 1, 2))
    assert first["train"][:] == again["train"][:] != other["train"][:]
    texts = [text for split in first.values() for text in split["text"]]
    assert len(texts) == len(set(texts)) == 300
    assert [len(first[split]) for split in ("train", "validation", "test")] == [200, 50, 50]


def test_words_alone_do_not_tell():
    from hf_fusion.data.reviews import ReviewSource, load_reviews

    data = load_reviews(ReviewSource(options={"num_train": 2000, "num_validation": 1, "num_test": 500}))
    assert set(data["train"]["labels"]) == set(range(5))
    assert bag_of_words_baseline(data["train"], data["test"])["fine_accuracy"] < 0.55
