"""Memory of a long prediction: the peaks after a tenth of the rows and after all.

One process predicts a parquet file with a single row group, the hardest case for reading in parts, and writes ten
shards. The model is tiny and the texts are short, so that memory kept per row shows within minutes.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import BertConfig, RobertaConfig

from hf_fusion.data.temporary import temporary_folder
from hf_fusion.data.tokenizers import train_tokenizer
from hf_fusion.deployment.prediction_shards import PredictionShards
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.models.configuration_dyfulm import DyFuLMConfig
from hf_fusion.models.modeling_dyfulm import DyFuLMForSequenceClassification
from hf_fusion.models.pipeline_fusion_sentiment import FusionSentimentPipeline
from hf_fusion.models.processing_dyfulm import DyFuLMProcessor
from hf_fusion.studies.fusion_cost import VOCABULARY
from hf_fusion.studies.measure import BenchmarkOptions, Comparison, compare, in_child, resident_bytes
from scripts.benchmarks.inputs import review_texts

ROWS, QUICK_ROWS = 1_000_000, 2_000
_SHARDS = 10
_BATCH = 256
_TOKENS, _LIMIT = 6, 16  # mean and most tokens of a text
_POLL_SECONDS = 0.1
# The number of compiled kernels that oneDNN keeps on a CPU, one per batch shape: few enough for memory kept per row to
# show, and the default.
_KERNELS = (8, 1024)


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Measures the peak memory after a tenth of the rows and after all; the candidate holds the values in between."""
    rows = QUICK_ROWS if options.quick else ROWS
    with temporary_folder() as folder:
        in_child(write_input, folder=folder, rows=rows)
        in_child(write_checkpoint, folder=folder)
        return [_compared(options, folder, rows, kernels) for kernels in _KERNELS]


def _compared(options, folder, rows, kernels):
    runs = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory(dir=folder) as output:
            variables = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(kernels)}
            runs.append(in_child(predict, variables, folder=folder, output=output, device=options.device))
    facts = {key: runs[-1][key] for key in ("curve", "resident_before")}
    return compare(
        f"prediction of {rows:,} rows, at most {kernels:,} kernels kept: resident at most",
        "bytes",
        [(run["curve"][0]["peak"], run["curve"][-1]["peak"]) for run in runs],
        {"name": f"after {rows // _SHARDS:,} rows"},
        {"name": f"after {rows:,} rows", **facts, "rows_per_second": rows / runs[-1]["seconds"]},
        target=0.95,
    )


def write_input(folder: str, rows: int) -> None:
    """Writes numbers and short texts to `folder/rows.parquet` in one row group."""
    texts = review_texts(rows, seed=0, mean=_TOKENS, limit=_LIMIT)
    table = pa.table({"id": pa.array(range(rows)), "text": texts})
    pq.write_table(table, Path(folder) / "rows.parquet", row_group_size=rows)


def write_checkpoint(folder: str) -> None:
    """Writes a DyFuLM with two encoders of one layer and width 8 to `folder/checkpoint`."""
    texts = review_texts(1000, seed=1)
    tokenizers = [train_tokenizer(texts, kind, VOCABULARY) for kind in ("bpe", "wordpiece")]
    encoders = [
        kind(
            vocab_size=VOCABULARY, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
            max_position_embeddings=64, pad_token_id=0,
        )
        for kind in (RobertaConfig, BertConfig)
    ]  # fmt: skip
    torch.manual_seed(0)
    model = DyFuLMForSequenceClassification(DyFuLMConfig(*encoders, fusion_hidden_size=8, layer_fusion_hidden_size=8))
    pipe = FusionSentimentPipeline(model, processor=DyFuLMProcessor(*tokenizers), device="cpu")
    pipe.save_pretrained(Path(folder) / "checkpoint")


def predict(folder: str, output: str, device: str) -> dict:
    """Predicts in this process; returns the seconds, and the current and peak memory after each shard."""
    checkpoint, source = f"{folder}/checkpoint", f"{folder}/rows.parquet"
    classify = load_pipeline(checkpoint, device=device)
    before, start = resident_bytes(), time.perf_counter()
    rows = pq.read_metadata(source).num_rows
    shards = PredictionShards(output, [source], checkpoint, classify.model.config, shard_rows=rows // _SHARDS)
    with _watched(shards) as curve:
        shards.fill(classify, _BATCH)
    if failed := shards.count()[0]:
        raise RuntimeError(f"{failed} rows have no prediction.")
    return {"curve": curve, "resident_before": before, "seconds": time.perf_counter() - start}


@contextmanager
def _watched(shards) -> Iterator[list[dict[str, int]]]:
    """Records the memory of this process after the rows of each shard, and at the end."""
    curve, ended = [], Event()

    def note(done):
        # Linux sums the counters of several processors, so that the peak can be some pages lower a moment later.
        resident, highest = resident_bytes(), curve[-1]["peak"] if curve else 0
        curve.append({"rows": done, "resident": resident, "peak": max(highest, resident, resident_bytes("VmHWM"))})

    def watch():
        while not ended.wait(_POLL_SECONDS):
            if (done := shards.rows_done()) // shards.shard_rows > len(curve):
                note(done)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield curve
    finally:
        ended.set()
        watcher.join()
    if not curve or curve[-1]["rows"] < len(shards.parts):
        note(len(shards.parts))
