"""Small tokenizers trained on a corpus at hand, for encoders that start from scratch."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

_SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}

KINDS = ("bpe", "unigram", "wordpiece")


def _untrained(kind):
    unknown = _SPECIAL["unk_token"]
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer, trainers.BpeTrainer, {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        return tokenizer, trainers.UnigramTrainer, {"unk_token": unknown}
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=unknown))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer, trainers.WordPieceTrainer, {}
    raise ValueError(f"Unknown kind of tokenizer {kind!r}; there are {', '.join(KINDS)}.")


def _inner_characters(tokenizer, texts):
    """The single characters as WordPiece writes them inside a word, in a fixed order."""
    words = (word for text in texts for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(
        tokenizer.normalizer.normalize_str(text)))  # fmt: skip
    return [f"##{character}" for character in sorted(set().union(*words))]


def train_tokenizer(
    texts: Iterable[str], kind: str, vocab_size: int = 8000, model_max_length: int = 512
) -> PreTrainedTokenizerFast:
    """
    Trains a tokenizer with [CLS] and [SEP] around each text; [PAD] has the id 0. The same texts give the same one.

    Args:
        texts: the corpus, read once.
        kind: "bpe" (byte-level, as RoBERTa's), "unigram" (as DeBERTa-v2's) or "wordpiece" (as BERT's).
        vocab_size: most tokens, special ones included. Byte-level BPE needs at least 260.
        model_max_length: most tokens of a text.
    """
    tokenizer, trainer_class, options = _untrained(kind)
    special = list(_SPECIAL.values())
    if kind == "wordpiece":
        # The trainer numbers these in the random order of a hash table; named first, they have their numbers.
        texts = list(texts)
        options["special_tokens"] = special + _inner_characters(tokenizer, texts)
    options = {"vocab_size": vocab_size, "special_tokens": special, "show_progress": False, **options}
    tokenizer.train_from_iterator(texts, trainer_class(**options))
    if kind == "wordpiece":
        trained, (tokenizer, _, _) = tokenizer, _untrained(kind)
        tokenizer.model = models.WordPiece(trained.get_vocab(), unk_token=_SPECIAL["unk_token"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=model_max_length, **_SPECIAL)
