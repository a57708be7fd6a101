"""Computes the outputs of all heads of a model on encoded rows."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, ProcessorMixin

from hf_fusion.data.arrow_rows import ArrowRows, values_of
from hf_fusion.data.collator import FusionCollator
from hf_fusion.models.configuration_common import head_widths
from hf_fusion.utils.errors import DataError


def compute_outputs(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    encoded: Dataset,
    batch_size: int = 32,
    track: Callable[[list[np.ndarray]], Iterable[np.ndarray]] = iter,
) -> dict[str, np.ndarray]:
    """
    Computes the outputs of all heads of a model in evaluation mode, on its device and in its data type. Rows of similar
    length share a batch, the longest first, so that a lack of memory shows at once. The inputs are those of training
    (`FusionCollator`); labels are not read.

    Args:
        model ([`DyFuLMForSequenceClassification`] or [`DashFusionForSequenceClassification`]): the model. Whether it is
            in training mode stays as it was.
        processor ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): pads the rows.
        encoded (`Dataset`): the result of [`Architecture.encode`], or rows derived from it; with the column `length`.
        batch_size (`int`, *optional*, defaults to 32): the number of rows per forward pass.
        track (`Callable`, *optional*, defaults to `iter`): wraps the batches, a list of row numbers for each, for a
            progress bar.

    Returns:
        `dict[str, np.ndarray]`: for each name in `config.heads` the outputs as float32, `(rows, classes)`, or `(rows,)`
        for a head of a single number such as the intensity, in the order of the rows.

    Raises:
        DataError: if a row has no input for the model (see [`drop_unreadable`]), or an output is not finite.

    Example:

    ```python
    from datasets import Dataset
    from hf_fusion import DyFuLMConfig, DyFuLMForSequenceClassification, DyFuLMProcessor
    from hf_fusion.architectures import architecture_of
    from hf_fusion.architectures.outputs import compute_outputs
    from hf_fusion.data.tokenizers import train_tokenizer

    texts = ["The bed was good.", "Not clean."]
    processor = DyFuLMProcessor(train_tokenizer(texts, "wordpiece", 100), max_length=32)
    encoder = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = DyFuLMForSequenceClassification(DyFuLMConfig(encoder_a_config=encoder, cross_fusion="a"))
    encoded = architecture_of("dyfulm").encode(Dataset.from_dict({"text": texts}), processor)
    outputs = compute_outputs(model, processor, encoded)
    outputs["coarse_logits"].shape  # (2, 3)
    ```
    """
    lengths = np.array(values_of(encoded, "length"))
    if unreadable := np.flatnonzero(lengths == 0).tolist():
        raise DataError(
            f"{len(unreadable)} of {len(lengths)} rows have no input for the model (the first one is row "
            f"{unreadable[0] + 1}): leave them out."
        )
    collate = FusionCollator(processor)
    rows = ArrowRows(encoded.select_columns([name for name in processor.padded_columns if name in encoded.features]))
    outputs = {name: np.empty((len(rows), *width), np.float32) for name, width in head_widths(model.config).items()}
    order = np.argsort(-lengths, kind="stable")
    was_training = model.training
    model.eval()
    try:
        for numbers in track([order[start : start + batch_size] for start in range(0, len(order), batch_size)]):
            batch = {name: value.to(model.device) for name, value in collate(rows.__getitems__(numbers)).items()}
            with torch.inference_mode():
                answers = model(**batch)
            for name, values in outputs.items():
                values[numbers] = answers[name].float().cpu().numpy()
    finally:
        model.train(was_training)
    for name, values in outputs.items():
        if bad := np.flatnonzero(~np.isfinite(values.reshape(len(rows), -1)).all(axis=1)).tolist():
            raise DataError(f"The output `{name}` of row {bad[0] + 1} is not finite ({len(bad)} rows in all).")
    return outputs
