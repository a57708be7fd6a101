"""`synthetic-reviews`: hotel reviews from a grammar whose exact score is known.

A review is one to three statements on aspects of a stay. What each word of opinion contributes depends on what stands
around it:

- an opinion word has a strength from -3 to 3;
- an intensifier multiplies it (`a bit` .5, `really` 1.5);
- a negation turns it around and weakens it: `not great` is -.5 times `great`;
- a contrast decides which half counts: `A, but B` and `although A, B` weigh B four times as much as A.

The score of a review is the mean strength of its statements, mapped from [-3, 3] to [0, 1]. Polarity, negation and
contrast are drawn independently, so that counting words says little: the model has to read what a word stands next to.
"""

import numpy as np
from datasets import Dataset, DatasetDict

ASPECTS = (
    "room", "breakfast", "staff", "location", "bed", "shower", "pool", "view", "service", "wifi", "bar", "lobby",
    "parking", "balcony", "restaurant", "air conditioning",
)  # fmt: skip
OPINIONS = {
    -3.0: ("terrible", "disgusting", "awful", "horrible"),
    -2.0: ("bad", "poor", "unpleasant", "disappointing"),
    -1.0: ("mediocre", "dated", "noisy", "small"),
    1.0: ("fine", "decent", "acceptable", "tidy"),
    2.0: ("good", "nice", "pleasant", "comfortable"),
    3.0: ("excellent", "wonderful", "fantastic", "perfect"),
}
INTENSIFIERS = {1.0: ("",), 0.5: ("a bit", "slightly", "somewhat"), 1.5: ("very", "really", "extremely")}
NEGATIONS = ("not", "never", "hardly")
NEGATION_FACTOR = -0.5
CONTRAST_WEIGHTS = (0.2, 0.8)
CONTRASTS = ("{0}, but {1}", "although {0}, {1}", "{0}; however, {1}", "even if {0}, {1}")
FILLERS = (
    "we stayed for two nights", "I travelled for work", "we came with the children", "it was our second visit",
    "we booked at short notice", "I arrived late in the evening", "we visited in the summer",
)  # fmt: skip
STRONGEST = max(OPINIONS)


def _statement(rng: np.random.Generator) -> tuple[str, float]:
    strength = float(rng.choice(list(OPINIONS)))
    factor = float(rng.choice(list(INTENSIFIERS), p=(0.5, 0.2, 0.3)))
    words = ["the", str(rng.choice(ASPECTS)), "was"]
    value = strength * factor
    if rng.random() < 0.5:
        words.append(str(rng.choice(NEGATIONS)))
        value *= NEGATION_FACTOR
    words += [str(rng.choice(INTENSIFIERS[factor])), str(rng.choice(OPINIONS[strength]))]
    return " ".join(word for word in words if word), float(np.clip(value, -STRONGEST, STRONGEST))


def _contrast(rng: np.random.Generator) -> tuple[str, float]:
    halves, values = zip(_statement(rng), _statement(rng), strict=True)
    # not `np.dot`, whose last digit depends on the processor
    mean = sum(weight * value for weight, value in zip(CONTRAST_WEIGHTS, values, strict=True))
    return str(rng.choice(CONTRASTS)).format(*halves), float(mean)


def generate_review(rng: np.random.Generator) -> tuple[str, float]:
    """One review: its text and its score in [0, 1]."""
    parts = [_contrast(rng) if rng.random() < 0.6 else _statement(rng) for _ in range(rng.integers(1, 3))]
    sentences = [text for text, _ in parts]
    if rng.random() < 0.5:
        sentences.insert(rng.integers(len(sentences) + 1), str(rng.choice(FILLERS)))
    text = " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)
    mean = float(np.mean([value for _, value in parts]))
    return text, (mean + STRONGEST) / (2 * STRONGEST)


def synthetic_reviews(num_train: int = 4000, num_validation: int = 500, num_test: int = 1000, seed: int = 0):
    """
    Generates the corpus; no text occurs twice, in one split or across splits.

    Args:
        num_train, num_validation, num_test: reviews per split.
        seed: of the generator; the same seed gives the same corpus.

    Returns:
        `DatasetDict` of `train`, `validation` and `test` with the columns `id`, `text` and `score` (in [0, 1]).

    Example:

    ```python
    from hf_fusion.data.synthetic_reviews import synthetic_reviews

    reviews = synthetic_reviews(num_train=4, num_validation=2, num_test=2, seed=1)
    reviews["train"][0]  # a text and its exact score
    ```
    """
    rng = np.random.default_rng(seed)
    seen: set[str] = set()
    splits = {}
    for split, count in (("train", num_train), ("validation", num_validation), ("test", num_test)):
        rows = []
        while len(rows) < count:
            text, score = generate_review(rng)
            if text not in seen:
                seen.add(text)
                rows.append({"id": f"synthetic-{split}-{len(rows)}", "text": text, "score": score})
        splits[split] = Dataset.from_list(rows)
    return DatasetDict(splits)
