import os
import subprocess
import sys

import pytest

from hf_fusion.data.tokenizers import KINDS, train_tokenizer

FINGERPRINTS = """
from hf_fusion.data.synthetic_reviews import synthetic_reviews
from hf_fusion.data.tokenizers import KINDS, train_tokenizer
from hf_fusion.models.processing_dyfulm import vocabulary_fingerprint
texts = list(synthetic_reviews(64, 1, 1)["train"]["text"])
print([vocabulary_fingerprint(train_tokenizer(texts, kind, 300)) for kind in KINDS])
"""


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens(corpus, kind):
    tokenizer = train_tokenizer(corpus, kind, 400, model_max_length=50)
    ids = tokenizer("the room was nice")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer.pad_token_id == 0 and tokenizer.model_max_length == 50 and tokenizer.is_fast
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "the room was nice"
    assert len(tokenizer) <= 400
    unseen = tokenizer("漢", add_special_tokens=False)["input_ids"]
    assert unseen and (kind == "bpe" or tokenizer.unk_token_id in unseen)


def test_wordpiece_does_not_read_its_own_pieces_in_the_text(corpus):
    tokenizer = train_tokenizer(corpus, "wordpiece", 400)
    assert tokenizer.all_special_ids == [0, 1, 2, 3] or len(tokenizer.all_special_ids) == 4
    assert tokenizer.tokenize("##a")[0] != "##a"


def test_same_texts_same_vocabulary_in_every_process(capsys):
    """Here, and where strings have other hashes."""
    command, environment = [sys.executable, "-c", FINGERPRINTS], {**os.environ, "PYTHONHASHSEED": "1"}
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    exec(FINGERPRINTS, {})
    assert capsys.readouterr().out == other


def test_unknown_kind(corpus):
    with pytest.raises(ValueError, match="'words'; there are bpe, unigram, wordpiece"):
        train_tokenizer(corpus, "words")
