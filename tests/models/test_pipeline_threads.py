"""One pipeline that several threads call: the answers are those of one thread."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from asserts import assert_close

LONG = "The room was not clean, but the staff was wonderful. " * 8
INPUTS = [LONG, "Good bed.", "The bar was fine. " * 7, "bad", "hotel " * 90, "We would never stay here again."]


@pytest.mark.parametrize("kind", ["review_classifier", "clip_classifier"])
def test_answers_are_right(request, kind):
    """Without a lock, a tokenizer that cuts for one thread counts the tokens of whole texts for another one."""
    classify = request.getfixturevalue(kind)
    options = [{"return_truncated": True}, {"long_texts": "cut", "return_truncated": True}]
    expected = [[classify(text, **own) for text in INPUTS] for own in options]
    cases = [(i % 2, (i * 5) % len(INPUTS)) for i in range(96)]
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda case: classify(INPUTS[case[1]], **options[case[0]]), cases))
    for (option, text), answer in zip(cases, found, strict=True):
        assert_close(answer, expected[option][text])


def test_explanations_are_right(review_classifier):
    expected = [review_classifier(text, explain=True) for text in INPUTS[1:3]]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda i: review_classifier(INPUTS[1 + i % 2], explain=True), range(4)))
    for i, answer in enumerate(found):
        assert_close(answer, expected[i % 2])


def test_tokenizers_are_used_under_a_lock(clip_classifier, monkeypatch):
    held = []
    encode = type(clip_classifier.processor).encode_text

    def note(self, *args, **kwargs):
        held.append(clip_classifier.tokenizer_lock.locked())
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(type(clip_classifier.processor), "encode_text", note)
    clip_classifier(INPUTS)
    assert held and all(held)
