"""Processor of DyFuLM: a text in the tokens of two tokenizers, and the spans that both have in common."""

import copy
import hashlib
import json
import os
from itertools import accumulate, chain, pairwise

import numpy as np
from transformers import BatchFeature, ProcessorMixin

from .processing_text import InputError

DEFAULT_MAX_LENGTH = 512
# Share of its tokens that a window of a long text repeats of the one before: enough for the clause that is cut off at
# its end, and an eighth more work.
WINDOW_OVERLAP = 1 / 8
# All white space of Unicode lies below this code; the last entry stands for everything from there on.
_WHITESPACE_END = 0x3001
_IS_WHITESPACE = np.array([chr(code).isspace() for code in range(_WHITESPACE_END)] + [False])

_SUFFIXES = ("", "_b")  # encoder A, encoder B
DEFAULT_OPTIONS = {
    "padding": True, "truncation": True, "max_length": None, "pad_to_multiple_of": None, "return_tensors": None,
}  # fmt: skip


class FusionProcessorMixin:
    """Comes before `ProcessorMixin` in the bases of a processor: its settings are the same before and after saving."""

    def to_dict(self):
        """All settings, with the fingerprints and the code that a checkpoint needs."""
        names = ("vocabulary_fingerprint", "vocabulary_fingerprint_b")
        found = dict.fromkeys(names) | dict(zip(names, map(vocabulary_fingerprint, self.tokenizers), strict=False))
        code = f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"
        return {"auto_map": {"AutoProcessor": code}, **super().to_dict(), **found}


class DyFuLMProcessor(FusionProcessorMixin, ProcessorMixin):
    r"""
    Turns texts into the six tensors of DyFuLM.

    `span_ids` and `span_ids_b` number the common spans of the two tokenisations: the pieces of text between positions
    where both tokenizers have a token boundary (white space apart, which tokenizers attach to either side). Every
    token belongs to one span; special tokens and padding have -1. A text that one of the tokenizers reads as nothing
    at all has no spans. Texts beyond `max_length` tokens are cut at the same character for both tokenizers, at a
    common boundary if there is one; or, with `return_windows`, they are read whole, in windows that begin and end at
    boundaries of spans. A window repeats an eighth of the one before. The text is tokenised once: a window has the
    tokens of the whole text between its boundaries, with the special tokens around them. A span that is longer than a
    window, such as a word of thousands of characters, is divided into parts of equally many tokens.

    Tokenizers without offsets ("slow" ones) give no spans; DyFuLM then fuses the pooled vectors, each tokenizer cuts
    long texts on its own, and windows are parts of equally many tokens, without overlap.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): tokenizer of encoder A.
        tokenizer_b (`PreTrainedTokenizerBase`, *optional*): tokenizer of encoder B; by default that of encoder A.
        max_length (`int`, *optional*): most tokens of a text, special tokens included. Defaults to the limit of
            both tokenizers, at most 512.
        vocabulary_fingerprint, vocabulary_fingerprint_b (`str`, *optional*): written by `save_pretrained` and compared
            on loading, so that a checkpoint is never read with the wrong tokenizer.

    Example:

    ```python
    from hf_fusion import DyFuLMProcessor
    from hf_fusion.data.tokenizers import train_tokenizer

    texts = ["The bed was good.", "The room was not clean."]
    processor = DyFuLMProcessor(train_tokenizer(texts, "wordpiece", 100), train_tokenizer(texts, "bpe", 300))
    batch = processor(texts, return_tensors="pt")
    sorted(batch)  # attention_mask, attention_mask_b, input_ids, input_ids_b, span_ids, span_ids_b
    processor.spans_of(texts[0])  # [(0, 3), (4, 7), ...]: places of the common spans
    processor(" ".join(texts), max_length=8, return_windows=True)["window_texts"]  # [0, 0 ...]: windows of one text
    ```
    """

    def __init__(
        self,
        tokenizer=None,
        tokenizer_b=None,
        max_length=None,
        vocabulary_fingerprint=None,
        vocabulary_fingerprint_b=None,
    ):
        tokenizer_b = copy.deepcopy(tokenizer) if tokenizer_b in (None, tokenizer) else tokenizer_b
        super().__init__(tokenizer, tokenizer_b)
        check_vocabulary("tokenizer", tokenizer)
        check_vocabulary("tokenizer_b", tokenizer_b)
        check_fingerprint("tokenizer", tokenizer, vocabulary_fingerprint)
        check_fingerprint("tokenizer_b", tokenizer_b, vocabulary_fingerprint_b)
        if max_length is None:
            max_length = min(tokenizer.model_max_length, tokenizer_b.model_max_length, DEFAULT_MAX_LENGTH)
        self.max_length = max_length
        check_max_length(self.tokenizers, max_length)

    @property
    def tokenizers(self):
        """`tuple`: the tokenizers of encoder A and encoder B."""
        return self.tokenizer, self.tokenizer_b

    @property
    def has_spans(self):
        """`bool`: whether both tokenizers give offsets, so that common spans exist."""
        return all(tokenizer.is_fast for tokenizer in self.tokenizers)

    @property
    def model_input_names(self):
        """Names of the tensors that `__call__` returns."""
        names = ["input_ids", "attention_mask"] + (["span_ids"] if self.has_spans else [])
        return [name + suffix for suffix in _SUFFIXES for name in names]

    @property
    def padded_columns(self):
        """Names of the columns of a row that [`pad`] pads."""
        return self.model_input_names + ["window_lengths" + suffix for suffix in _SUFFIXES]

    def __call__(
        self,
        text=None,
        padding=True,
        truncation=True,
        max_length=None,
        pad_to_multiple_of=None,
        return_tensors=None,
        text_kwargs=None,
        common_kwargs=None,
        return_truncated=False,
        return_windows=False,
        return_kept=False,
    ):
        """
        Args:
            text (`str` or `list[str]`): the texts. Empty ones are allowed.
            padding (`bool` or `str`, defaults to `True`): to the longest text (`True`, "longest"), to `max_length`
                ("max_length"), or not at all. Each of the two tokenisations has its own length.
            truncation (`bool`, defaults to `True`): whether to cut texts of more than `max_length` tokens.
            max_length (`int`, *optional*): overrides the processor's.
            pad_to_multiple_of (`int`, *optional*): rounds the padded lengths up.
            return_tensors (`str`, *optional*): "pt" or "np" for arrays; lists otherwise.
            text_kwargs, common_kwargs (`dict`, *optional*): the same options by name, as in other processors.
            return_truncated (`bool`, defaults to `False`): whether to return `truncated` as well, of shape `(texts,)`:
                whether the text was cut.
            return_kept (`bool`, defaults to `False`): whether to return `kept` as well, of shape `(texts,)`: the share
                of the text's characters that is left (of its tokens, if the tokenizers have no offsets).
            return_windows (`bool`, defaults to `False`): whether to read texts of more than `max_length` tokens in
                several windows, each of them a row, in place of cutting them; and to return `window_texts` as well, of
                shape `(windows,)`: the number of each row's text.

        Returns:
            `BatchFeature` with `input_ids`, `attention_mask`, `span_ids` and the same with `_b`, each of shape
            `(batch, tokens)`, where the rows are the texts or the windows. A single string without `return_tensors` and
            `return_windows` gives unbatched lists.

        Raises:
            ValueError: if a text is no string or cannot be encoded (lone surrogates), `max_length` is too small, or an
                option is unknown or given twice.
        """
        options = merged_options(
            padding, truncation, max_length, pad_to_multiple_of, return_tensors,
            common_kwargs=common_kwargs, text_kwargs=text_kwargs,
        )  # fmt: skip
        padding, truncation, max_length, pad_to_multiple_of, return_tensors = options.values()
        single = isinstance(text, str)
        texts = [text] if single else list(text) if isinstance(text, (list, tuple)) else text
        check_texts(texts)
        max_length = self.max_length if max_length is None else max_length
        check_max_length(self.tokenizers, max_length)

        limit = max_length if truncation else None
        encode = self._encode_spans if self.has_spans else self._encode_plain
        columns, window_texts, kept = encode(texts, limit, return_windows) if texts else ({}, [], [])
        columns = {name: columns.get(name, []) for name in self.model_input_names}
        others = {"truncated": [share < 1 for share in kept]} if return_truncated else {}
        if return_kept:
            others["kept"] = kept
        if single and return_tensors is None and not return_windows:
            return BatchFeature({name: rows[0] for name, rows in (columns | others).items()})
        if return_windows:
            others["window_texts"] = window_texts
        return self._pad_columns(columns, padding, max_length, pad_to_multiple_of, return_tensors, others)

    def encode_text(self, texts, return_truncated=False, return_windows=False):
        """
        Texts -> unpadded rows for [`pad`], one for each text; see `__call__`.

        Returns:
            `dict` of lists, by the names of `model_input_names`. With `return_windows` a row holds the windows of its
            text, one after the other, and `window_lengths` and `window_lengths_b` their numbers of tokens.
        """
        encoded = dict(self(texts, padding=False, return_truncated=return_truncated, return_windows=return_windows))
        if not return_windows:
            return encoded
        bounds = np.searchsorted(encoded.pop("window_texts"), np.arange(len(texts) + 1)).tolist()
        places = [slice(*pair) for pair in pairwise(bounds)]
        for suffix in _SUFFIXES:
            lengths = [len(ids) for ids in encoded["input_ids" + suffix]]
            encoded["window_lengths" + suffix] = [lengths[place] for place in places]
        for name in self.model_input_names:
            encoded[name] = [list(chain.from_iterable(encoded[name][place])) for place in places]
        return encoded

    def pad(self, features, padding=True, max_length=None, pad_to_multiple_of=None, return_tensors=None):
        """
        Pads rows that were encoded before, for a collator.

        Args:
            features (`list[dict]` or `dict` of lists): rows with the keys of `model_input_names`, and with
                `window_lengths` and `window_lengths_b` if they hold several windows (see [`encode_text`]). Other
                columns, such as `labels`, are passed on.
            padding, max_length, pad_to_multiple_of, return_tensors: as in `__call__`.

        Returns:
            `BatchFeature` of the same keys, each of shape `(batch, tokens)` where it was padded. If a text has several
            windows, each window is a row, and `window_texts` of shape `(windows,)` are the numbers of their texts.

        Raises:
            ValueError: if a row lacks one of the keys, or with `return_tensors` if another column holds no numbers.
        """
        rows = features if isinstance(features, (list, tuple)) else _rows(features)
        columns = {}
        for name in self.model_input_names:
            missing = next((i for i, row in enumerate(rows) if name not in row), None)
            if missing is not None:
                raise ValueError(f"Row {missing} has no `{name}`; its keys are {sorted(rows[missing])}.")
            columns[name] = [list(row[name]) for row in rows]
        others = other_columns(rows, self.padded_columns, return_tensors)
        if any(len(row.get("window_lengths", ())) > 1 for row in rows):
            for name, column in columns.items():
                suffix = "_b" if name.endswith("_b") else ""
                lengths = [row["window_lengths" + suffix] for row in rows]
                columns[name] = [window for pair in zip(column, lengths, strict=True) for window in _divided(*pair)]
            counts = [len(row["window_lengths"]) for row in rows]
            others["window_texts"] = np.repeat(np.arange(len(rows)), counts).tolist()
        return self._pad_columns(
            columns, padding, max_length or self.max_length, pad_to_multiple_of, return_tensors, others
        )

    def _encode_plain(self, texts, limit, in_windows):
        """The rows of texts without spans, the number of each row's text, and the share that is left of each text."""
        sides, kept = [], np.ones(len(texts))
        for tokenizer in self.tokenizers:
            options = {"truncation": limit is not None and not in_windows, "max_length": limit, "verbose": False}
            encoded = tokenizer(texts, return_attention_mask=False, return_special_tokens_mask=True, **options)
            if not in_windows:
                for row, count in truncated_rows(tokenizer, texts, encoded["input_ids"], limit).items():
                    kept[row] = min(kept[row], limit / count)
            unknown = [np.full(len(ids), -1) for ids in encoded["input_ids"]]
            sides.append(list(zip(encoded["input_ids"], encoded["special_tokens_mask"], unknown, strict=True)))
        return *_rows_of_texts(zip(*sides, strict=True), limit), kept.tolist()

    def _encode_spans(self, texts, limit, in_windows):
        """As [`_encode_plain`], of texts with spans."""
        readings, kept = self._readings(texts, None if in_windows else limit)
        pairs = []
        for text, pair in zip(texts, readings, strict=True):
            spans = common_spans(text, *((offsets, special) for _, offsets, special in pair))
            sides = zip(pair, spans, strict=True)
            pairs.append([(ids, special, span_ids) for (ids, _, special), span_ids in sides])
        return *_rows_of_texts(pairs, limit), kept

    def spans_of(self, text, long_texts="window"):
        """
        The common spans of a text, as `span_ids` numbers them.

        Args:
            text (`str`): the text.
            long_texts (`str`, defaults to `"window"`): `"window"` for those of the whole text, which its windows share;
                `"cut"` for those of the part that is left of a long text.

        Returns:
            `list[tuple[int, int]]`: for each span the characters `[start, end)`; empty where there are no spans.
        """
        if not self.has_spans:
            return []
        ((pair,), _) = self._readings([text], self.max_length if long_texts == "cut" else None)
        sides = [(offsets, special) for _, offsets, special in pair]
        places = {}
        for (offsets, _), span_ids in zip(sides, common_spans(text, *sides), strict=True):
            for (start, end), span in zip(offsets.tolist(), span_ids.tolist(), strict=True):
                if span >= 0:
                    first, last = places.get(span, (start, end))
                    places[span] = (min(first, start), max(last, end))
        return [places[span] for span in sorted(places)]

    def first_spans_of(self, text):
        """
        The first common span of each window of a text.

        Args:
            text (`str`): the text.

        Returns:
            `list[int]`: for each window the number in `spans_of(text)` of the span that its `span_ids` call 0.
        """
        ((pair,), _) = self._readings([text], None)
        spans = common_spans(text, *((offsets, special) for _, offsets, special in pair))
        sides = [(ids, special, span_ids) for (ids, _, special), span_ids in zip(pair, spans, strict=True)]
        return [first for first, _ in _windows(sides, self.max_length)]

    def _readings(self, texts, limit):
        """As [`_read`], of the beginning that fits into `limit` tokens; and the share of each text that is left."""
        readings, kept = self._read(texts), [1.0] * len(texts)
        for i, pair in enumerate(readings):
            if limit is not None and max(len(ids) for ids, _, _ in pair) > limit:
                readings[i], end = self._cut(texts[i], pair, limit)
                kept[i] = end / len(texts[i])
        return readings, kept

    def _read(self, texts):
        """Each text as a pair of (ids, offsets, is special token), one for each tokenizer."""
        sides = []
        for tokenizer in self.tokenizers:
            encoded = tokenizer(
                texts,
                truncation=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                return_offsets_mapping=True,
                return_special_tokens_mask=True,
                verbose=False,
            )
            sides.append(
                [
                    (ids, np.array(offsets, dtype=np.int64).reshape(-1, 2), np.array(special, dtype=bool))
                    for ids, offsets, special in zip(
                        encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True
                    )
                ]
            )
        return list(zip(*sides, strict=True))

    def _cut(self, text, pair, limit):
        """Reads the longest beginning of `text` that both tokenizers hold in `limit` tokens; also gives its length."""
        while max(len(ids) for ids, _, _ in pair) > limit:
            end = len(text)
            for ids, offsets, special in pair:
                if len(ids) > limit:
                    tokens = offsets[~special]
                    kept = limit - int(special.sum())
                    # up to where the first token that does not fit begins, and in any case shorter than before
                    end = min(end, int(tokens[kept:, 0].min()), len(text) - 1)
            text = text[: _last_common_boundary(text, pair, end)]
            (pair,) = self._read([text])
        return pair, len(text)

    def _pad_columns(self, columns, padding, max_length, pad_to_multiple_of, return_tensors, others=()):
        columns = pad_token_columns(columns, self.tokenizers, padding, max_length, pad_to_multiple_of)
        return BatchFeature({**columns, **dict(others)}, tensor_type=return_tensors)

    def save_pretrained(self, save_directory, push_to_hub=False, **kwargs):
        """Saves both tokenizers and the processor's settings and code; see `ProcessorMixin.save_pretrained`."""
        save_second_tokenizer_config(save_directory)
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)


def merged_options(*values, **groups):
    """
    Options of a call with those that are given in groups, such as `text_kwargs`.

    Args:
        values: of [`DEFAULT_OPTIONS`], in their order.
        groups: for each group its name and its options, or `None`.

    Returns:
        `dict` of all options, in the order of [`DEFAULT_OPTIONS`].

    Raises:
        ValueError: if an option is unknown, or given twice with different values.
    """
    options = dict(zip(DEFAULT_OPTIONS, values, strict=True))
    for group, given in groups.items():
        for name, value in (given or {}).items():
            if name not in options:
                raise ValueError(f"`{group}` takes {', '.join(options)}; `{name}` is none of them.")
            if options[name] not in (DEFAULT_OPTIONS[name], value):
                raise ValueError(f"`{name}` is given twice: {options[name]!r} and, in `{group}`, {value!r}.")
            options[name] = value
    return options


def pad_token_columns(columns, tokenizers, padding, max_length, pad_to_multiple_of):
    """
    Pads the token rows of each tokenizer to a common width.

    Args:
        columns (`dict[str, list[list[int]]]`): rows by name; those of the second tokenizer have names with `_b`.
        tokenizers (`tuple`): one or two tokenizers, which define padding tokens and side.
        padding, max_length, pad_to_multiple_of: see [`DyFuLMProcessor.__call__`].

    Returns:
        `dict` of the padded rows; the same rows without padding.

    Raises:
        ValueError: if `padding` has another value.
    """
    if padding not in (True, False, "longest", "max_length", "do_not_pad"):
        raise ValueError(f"`padding` must be True, False, 'longest', 'max_length' or 'do_not_pad', got {padding!r}.")
    if padding in (False, "do_not_pad"):
        return columns
    padded = {}
    for tokenizer, suffix in zip(tokenizers, _SUFFIXES, strict=False):
        lengths = [len(ids) for ids in columns["input_ids" + suffix]]
        width = max_length if padding == "max_length" else max(lengths, default=0)
        if pad_to_multiple_of:
            width = -(-width // pad_to_multiple_of) * pad_to_multiple_of
        fills = {
            "input_ids": tokenizer.pad_token_id or 0,
            "attention_mask": 0,
            "token_type_ids": tokenizer.pad_token_type_id,
            "span_ids": -1,
        }
        for name, fill in fills.items():
            if name + suffix in columns:
                padded[name + suffix] = [
                    _padded(row, width, fill, tokenizer.padding_side) for row in columns[name + suffix]
                ]
    return padded


def truncated_rows(tokenizer, texts, rows, limit):
    """
    The texts that lost tokens to truncation.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): the tokenizer of the rows.
        texts (`list[str]`): the texts.
        rows (`list[list[int]]`): their tokens, at most `limit` each.
        limit (`int` or `None`): most tokens of a row; `None` cuts nothing.

    Returns:
        `dict[int, int]`: by the number of the text, the number of tokens that it has whole.
    """
    full = [i for i, ids in enumerate(rows) if limit is not None and len(ids) >= limit]
    if not full:
        return {}
    whole = tokenizer([texts[i] for i in full], truncation=False, return_attention_mask=False, verbose=False)
    return {i: len(ids) for i, ids in zip(full, whole["input_ids"], strict=True) if len(ids) > limit}


def rows_without_tokens(columns, tokenizers):
    """
    The numbers of the rows in which no tokenizer found a token, beside the special ones that it adds to every text.

    Args:
        columns (`dict`): attention masks by name, `(batch, tokens)` or unpadded; those of the second tokenizer have
            names with `_b`.
        tokenizers (`tuple`): one or two tokenizers.
    """
    empty = [
        [np.asarray(mask).sum() <= tokenizer.num_special_tokens_to_add() for mask in columns["attention_mask" + suffix]]
        for tokenizer, suffix in zip(tokenizers, _SUFFIXES, strict=False)
    ]
    return [i for i, sides in enumerate(zip(*empty, strict=True)) if all(sides)]


def other_columns(rows, padded, return_tensors):
    """
    The columns of rows that a processor does not pad, as a tokenizer's `pad` passes them on.

    Args:
        rows (`list[dict]`): with the same keys.
        padded: names of the columns to leave out.
        return_tensors: the kind of arrays to make, or `None`.

    Returns:
        `dict` of lists, one value for each row.

    Raises:
        ValueError: if some rows lack a column, or it cannot become an array.
    """
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row if name not in padded):
        missing = next((i for i, row in enumerate(rows) if name not in row), None)
        if missing is not None:
            raise ValueError(f"Row {missing} has no `{name}`, other rows of the batch have one.")
        columns[name] = [row[name] for row in rows]
        if return_tensors is not None and not _is_numeric(columns[name]):
            raise ValueError(
                f"The column `{name}` ({repr(columns[name][0])[:60]}) cannot become a tensor: it must hold numbers, "
                "in each row as many. Remove it from the rows, or let `hf_fusion.FusionCollator` make the batches, "
                "which leaves out all but inputs and labels and fills missing labels."
            )
    return columns


def _is_numeric(values):
    try:
        return np.asarray(values).dtype.kind in "biuf"
    except (TypeError, ValueError, RuntimeError):  # ragged, or tensors that are not on the CPU
        return False


def save_second_tokenizer_config(save_directory):
    """Writes `tokenizer_b/config.json`: without it the folder would be passed over for the root tokenizer."""
    folder = os.path.join(save_directory, "tokenizer_b")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump({}, file)


def vocabulary_fingerprint(tokenizer):
    """`str`: a hash of the tokens and their ids."""
    entries = sorted(tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:16]


def common_spans(text, side_a, side_b):
    """
    Numbers the common spans of two tokenisations of one text.

    Args:
        text (`str`): the text.
        side_a, side_b: `(offsets, special)` of one tokenisation: the characters `[start, end)` of each token, of shape
            `(tokens, 2)`, and whether it is a special token, of shape `(tokens,)`.

    Returns:
        Two `np.ndarray` of shape `(tokens,)`: the span of each token, non-decreasing from 0 without gaps and with the
        same last number on both sides; -1 for special tokens, and for all tokens if a side has none that are real.
    """
    to_ink = _ink_positions(text)
    ink = int(to_ink[-1])
    spans = [np.full(len(special), -1, dtype=np.int64) for _, special in (side_a, side_b)]
    tokens = []
    for offsets, special in (side_a, side_b):
        start, end = to_ink[offsets[~special]].T
        # Tokenizers may step back (parts of one character): a span never does.
        tokens.append((np.maximum.accumulate(start) if len(start) else start, end))
    if ink == 0 or not all(len(start) for start, _ in tokens):
        return spans

    boundary = _free_positions(tokens, ink)[:ink]
    boundary[0] = False
    piece_of_character = np.cumsum(boundary)
    pieces = [piece_of_character[np.minimum(start, ink - 1)] for start, _ in tokens]

    # A piece that only one side has a token in joins the piece before it (at the beginning: the one after).
    shared = np.ones(piece_of_character[-1] + 1, dtype=bool)
    for side in pieces:
        shared &= np.bincount(side, minlength=len(shared)) > 0
    if not shared.any():
        shared[0] = True  # the two sides share no piece at all: the whole text is one span
    number = np.maximum(np.cumsum(shared) - 1, 0)
    for span_ids, (_, special), side in zip(spans, (side_a, side_b), pieces, strict=True):
        span_ids[~special] = number[side]
    return spans


def _ink_positions(text):
    """How many characters that are not white space precede each position of the text; for `len(text) + 1` positions.

    A text of white space alone keeps its positions.
    """
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    is_ink = ~_IS_WHITESPACE[np.minimum(codes, _WHITESPACE_END)]
    if not is_ink.any():
        is_ink = np.ones_like(is_ink)
    return np.concatenate([[0], np.cumsum(is_ink)])


def _free_positions(sides, length):
    """Which of the positions 0 to `length` no token lies across; `sides` are pairs of token starts and ends."""
    crossed = np.zeros(length + 2, dtype=np.int64)
    for start, end in sides:
        inside = end > start + 1
        np.add.at(crossed, start[inside] + 1, 1)
        np.add.at(crossed, end[inside], -1)
    return np.cumsum(crossed)[: length + 1] == 0


def _last_common_boundary(text, pair, end):
    """The last position up to `end` where both tokenisations have a boundary; `end` itself if there is none."""
    sides = [offsets[~special].T for _, offsets, special in pair]
    return int(np.flatnonzero(_free_positions(sides, len(text))[: end + 1])[-1]) or end


def _rows_of_texts(pairs, limit):
    """
    The rows of texts: one for each text, or one for each window of those that have more than `limit` tokens.

    Args:
        pairs (`Iterable`): for each text two sides, one for each tokenizer: ids, whether each token is a special one,
            and its span.
        limit (`int` or `None`): most tokens of a row.

    Returns:
        Two values: `dict` of the rows by name, and the number of each row's text.
    """
    columns = {name + suffix: [] for suffix in _SUFFIXES for name in ("input_ids", "attention_mask", "span_ids")}
    numbers = []
    for number, sides in enumerate(pairs):
        fits = limit is None or max(len(ids) for ids, _, _ in sides) <= limit
        windows = [(0, [(ids, spans) for ids, _, spans in sides])] if fits else _windows(sides, limit)
        for _, window in windows:
            numbers.append(number)
            for (ids, spans), suffix in zip(window, _SUFFIXES, strict=True):
                columns["input_ids" + suffix].append(ids)
                columns["attention_mask" + suffix].append([1] * len(ids))
                columns["span_ids" + suffix].append(spans.tolist())
    return columns, numbers


def _windows(sides, limit):
    """
    The windows of a text, each of at most `limit` tokens; see [`DyFuLMProcessor`].

    Args:
        sides: as in [`_rows_of_texts`].
        limit (`int`): most tokens of a window, special ones included.

    Returns:
        `list[tuple]`: for each window the number of its first span, and for each side its ids and spans from 0.
    """
    parts = [_without_special(*side) for side in sides]
    rooms = np.array([limit - len(front) - len(end) for front, _, _, end in parts])
    starts, stops = _units([spans for _, _, spans, _ in parts], rooms)
    windows = []
    for first, last in _window_bounds(starts, stops, rooms):
        number, window = 0, []
        for (front, ids, spans, end), start, stop in zip(parts, starts[first], stops[last], strict=True):
            own = spans[start:stop]
            if len(own) and own[0] >= 0:
                number = int(own[0])
                own = own - number
            own = np.concatenate([np.full(len(front), -1), own, np.full(len(end), -1)])
            window.append(([*front, *ids[start:stop], *end], own))
        windows.append((number, window))
    return windows


def _without_special(ids, special, spans):
    """The special tokens in front of a text, ids and spans of the text itself, and the special tokens behind it."""
    real = np.flatnonzero(~np.asarray(special, dtype=bool))
    start, stop = (real[0], real[-1] + 1) if len(real) else (len(ids), len(ids))
    return ids[:start], ids[start:stop], spans[start:stop], ids[stop:]


def _units(spans, rooms):
    """
    The pieces that a window holds or not: the common spans, and equal parts of spans that no window holds.

    Args:
        spans: for each side the span of each token, or -1 for all.
        rooms (`np.ndarray` of shape `(2,)`): most tokens of a window.

    Returns:
        Two `np.ndarray` of shape `(units, 2)`: for each unit the first token of each side, and the one after its last.
    """
    sizes = np.array([len(side) for side in spans])
    if not sizes.all() or spans[0][0] < 0:
        return _equal_parts(np.zeros_like(sizes), sizes, rooms)
    starts = np.stack([np.searchsorted(side, np.arange(spans[0][-1] + 1)) for side in spans], axis=1)
    stops = np.concatenate([starts[1:], sizes[None]])
    too_long = (stops - starts > rooms).any(axis=1)
    if not too_long.any():
        return starts, stops
    parts = [
        _equal_parts(start, stop, rooms) if divide else (start[None], stop[None])
        for start, stop, divide in zip(starts, stops, too_long, strict=True)
    ]
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def _equal_parts(start, stop, rooms):
    """
    Divides the tokens of both sides into as few parts as fit. A side with fewer tokens than parts repeats them, so that
    each part has one.
    """
    sizes = stop - start
    count = max(int((-(-sizes // rooms)).max()), 1)
    bounds = start + np.arange(count + 1)[:, None] * sizes // count  # (parts + 1, 2)
    starts = np.minimum(bounds[:-1], np.maximum(stop - 1, start))
    return starts, np.maximum(bounds[1:], np.minimum(starts + 1, stop))


def _window_bounds(starts, stops, rooms):
    """The first and the last unit of each window; `starts` and `stops` are those of [`_units`]."""

    def last_from(first):
        ends = starts[first] + rooms
        return min(int(np.searchsorted(stops[:, side], ends[side], side="right")) for side in (0, 1)) - 1

    repeated = (rooms * WINDOW_OVERLAP).astype(np.int64)
    bounds = [(0, last_from(0))]
    while (last := bounds[-1][1]) < len(starts) - 1:
        places = stops[last] - repeated
        first = max(int(np.searchsorted(starts[:, side], places[side])) for side in (0, 1))
        first = min(first, last + 1)
        if last_from(first) <= last:  # no room for the next unit beside the repeated ones
            first = last + 1
        bounds.append((first, last_from(first)))
    return bounds


def _divided(values, lengths):
    """A list in consecutive parts of the given lengths."""
    return [values[stop - length : stop] for length, stop in zip(lengths, accumulate(lengths), strict=True)]


def check_max_length(tokenizers, max_length):
    """Raises `ValueError` unless `max_length` leaves room for a token beside the special ones of each tokenizer."""
    least = 1 + max(tokenizer.num_special_tokens_to_add() for tokenizer in tokenizers)
    if not isinstance(max_length, int) or max_length < least:
        raise ValueError(
            f"`max_length` must be an integer of at least {least} (one token beside the special ones), "
            f"got {max_length!r}."
        )


def check_texts(texts, numbers=None):
    """Raises `ValueError` unless `texts` is a list, and `InputError` unless it holds encodable strings; the error names
    the text by its place, or by its entry in `numbers`."""
    if not isinstance(texts, list):
        raise ValueError(f"`text` must be a string or a list of strings, got {type(texts).__name__}.")
    for i, text in enumerate(texts) if numbers is None else zip(numbers, texts, strict=True):
        if not isinstance(text, str):
            raise InputError(f"Text {i} must be a string, got {type(text).__name__}: {repr(text)[:80]}.")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"Text {i} is no valid Unicode: lone surrogate {text[error.start]!r} at character {error.start}. "
                "Decode it with errors='replace'."
            ) from error


def check_vocabulary(name, tokenizer):
    """
    Raises `ValueError` if a tokenizer knows special tokens alone: such a one is loaded, without a word, from a folder
    that has no file of a vocabulary.
    """
    if not set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids):
        raise ValueError(
            f"`{name}` has no vocabulary: it knows special tokens alone. Is its folder without tokenizer.json, or "
            "without the file of the vocabulary?"
        )


def check_fingerprint(name, tokenizer, expected):
    """Raises `ValueError` if the vocabulary is not the one that was saved (`expected`; `None` = unknown)."""
    if expected is None:
        return
    found = vocabulary_fingerprint(tokenizer)
    if found != expected:
        raise ValueError(
            f"`{name}` is not the one that the checkpoint was saved with: its vocabulary has the fingerprint {found}, "
            f"processor_config.json says {expected}. Is the folder `{name}` of the checkpoint incomplete? After a "
            "wanted change of the vocabulary, save the processor again."
        )


def _rows(columns):
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _padded(row, width, fill, side):
    padding = [fill] * (width - len(row))
    return padding + row if side == "left" else row + padding


__all__ = ["DyFuLMProcessor"]
