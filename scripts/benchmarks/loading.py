"""A corpus of MOSEI's size: mapped from disk as prepared, against one pickle of padded arrays in memory.

Each side runs in a separate process, from the files to the first batch and through one epoch. Both files have
just been written, so that both profit from the system's cache.
"""

import pickle
import time
from pathlib import Path

import numpy as np
import torch
from datasets import disable_caching, disable_progress_bars
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from hf_fusion.architectures.clips import encode_clips
from hf_fusion.architectures.dashfusion import feature_extractor_for
from hf_fusion.data.arguments import DataArguments
from hf_fusion.data.clips import load_clips
from hf_fusion.data.prepare import write_clips
from hf_fusion.data.temporary import temporary_folder
from hf_fusion.models.feature_extraction_dashfusion import STREAMS
from hf_fusion.models.modeling_dashfusion import DashFusionForSequenceClassification
from hf_fusion.models.processing_dashfusion import DashFusionProcessor
from hf_fusion.studies.fusion_cost import VOCABULARY, stub_text_config
from hf_fusion.studies.measure import (
    BenchmarkOptions,
    Comparison,
    alternate,
    compare,
    in_child,
    resident_bytes,
)
from hf_fusion.training.arguments import FusionTrainingArguments
from hf_fusion.training.trainer import FusionTrainer
from scripts.benchmarks.inputs import MOSEI, clip_lengths, corpus

CLIPS = 16_326  # MOSEI's training split
QUICK_CLIPS = 200
_BATCH = 32
# The measured costs: unit, and key in the result of a process.
_COSTS = {
    "until the first batch": ("seconds", "first_batch"),
    "each clip of one epoch": ("seconds", "per_clip"),
    "resident after the first batch": ("bytes", "resident"),
    "resident at most": ("bytes", "peak"),
    "resident after one epoch, without mapped files": ("bytes", "anonymous"),
}


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Compares the seconds until the first batch and per clip of an epoch, and the resident memory."""
    count = QUICK_CLIPS if options.quick else CLIPS
    runs = {"reference": [], "candidate": []}

    def once(side, function, **arguments):
        runs[side].append(in_child(function, folder=folder, **arguments))
        return runs[side][-1]["first_batch"]

    with temporary_folder() as folder:
        for write in (write_pickle, write_prepared):
            in_child(write, folder=folder, count=count)
        alternate(
            lambda: once("reference", read_pickle),
            lambda: once("candidate", read_prepared, text_encoder=options.text_encoder),
            options.repeats,
        )
    return [_comparison(runs, f"{count} clips, {what}", *cost) for what, cost in _COSTS.items()]


def _comparison(runs, what, unit, key):
    costs = {side: [run[key] for run in results] for side, results in runs.items()}
    names = {"reference": "pickle of padded arrays", "candidate": "prepared folder"}
    facts = {side: {"name": names[side], "stages": _stages(results)} for side, results in runs.items()}
    if key == "per_clip":
        for side, values in costs.items():
            facts[side]["clips_per_second"] = 1 / float(np.median(values))
    target = 1.0 if key == "per_clip" else None
    return compare(what, unit, list(zip(costs["reference"], costs["candidate"], strict=True)), **facts, target=target)


def _stages(results):
    """Returns the median seconds of each stage up to the first batch."""
    return {name: float(np.median([run["stages"][name] for run in results])) for name in results[0]["stages"]}


def write_prepared(folder: str, count: int) -> None:
    """Writes the corpus to `folder/prepared` in the format of `hf-fusion prepare`."""
    disable_progress_bars()
    write_clips(corpus(MOSEI, count), str(Path(folder) / "prepared"), {"name": "corpus"})


def write_pickle(folder: str, count: int) -> None:
    """Writes the corpus to `folder/clips.pkl` in the format of MMSA: padded float32 arrays, and texts as tokens."""
    limits, lengths = MOSEI.limits, clip_lengths(MOSEI, count, seed=0)
    mask = np.arange(limits["text"]) < lengths["text"][:, None]  # (clips, words)
    arrays = {
        "input_ids": np.random.default_rng(0).integers(1, VOCABULARY, mask.shape) * mask,
        "attention_mask": mask.astype(np.int64),
        "labels": np.zeros(count, dtype=np.float32),
    }
    for name in STREAMS:
        arrays[name] = np.zeros((count, limits[name], getattr(MOSEI, f"{name}_features")), dtype=np.float32)
        arrays[f"{name}_lengths"] = lengths[name]
    for i, clip in enumerate(corpus(MOSEI, count)):
        arrays["labels"][i] = clip["label"]
        for name in STREAMS:
            arrays[name][i, : len(clip[name])] = clip[name]
    with open(Path(folder) / "clips.pkl", "wb") as file:
        pickle.dump(arrays, file, protocol=pickle.HIGHEST_PROTOCOL)


def read_pickle(folder: str) -> dict:
    """Runs the reference in this process: loads the pickle, shuffles, and stacks padded rows."""
    clock = _Clock()
    rows = _Rows(read_arrays(folder))
    clock.stage("load")
    return clock.through(DataLoader(rows, batch_size=_BATCH, shuffle=True))


def read_arrays(folder: str) -> dict[str, torch.Tensor]:
    """Reads the arrays that [`write_pickle`] wrote."""
    with open(Path(folder) / "clips.pkl", "rb") as file:
        return {name: torch.from_numpy(array) for name, array in pickle.load(file).items()}


class _Rows(torch.utils.data.Dataset):
    """Rows of padded tensors for the default collator of PyTorch."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays["labels"])

    def __getitem__(self, i):
        return {name: array[i] for name, array in self.arrays.items()}


def read_prepared(folder: str, text_encoder: str) -> dict:
    """Runs the candidate in this process: the steps of training from the prepared folder to its batches."""
    disable_progress_bars()
    disable_caching()  # otherwise the second process would reuse the tokens of the first
    tokenizer = AutoTokenizer.from_pretrained(text_encoder)
    model = DashFusionForSequenceClassification.from_text_encoder(stub_text_config(), **MOSEI.config_fields)
    clock = _Clock()
    data_args = DataArguments(dataset=str(Path(folder) / "prepared"))
    data_args.complete("clips")
    clips = load_clips(data_args.source())["train"]
    clock.stage("load")
    extractor = feature_extractor_for({}, data_args, clips)
    clock.stage("normalisation")
    processor = DashFusionProcessor(tokenizer, extractor)
    encoded = encode_clips(clips, processor)
    clock.stage("encode")
    with temporary_folder() as output:
        args = FusionTrainingArguments(
            output, per_device_train_batch_size=_BATCH, eval_strategy="no", save_strategy="no",
            load_best_model_at_end=False, report_to="none", use_cpu=True,
        )  # fmt: skip
        loader = FusionTrainer(model, args, train_dataset=encoded, processing_class=processor).get_train_dataloader()
        clock.stage("trainer")
        return clock.through(loader)


class _Clock:
    """Measures the seconds of each stage, and the memory of the process during an epoch."""

    def __init__(self):
        self.stages = {}
        self.resident_before = resident_bytes()
        self.last = time.perf_counter()

    def stage(self, name):
        """Marks the end of a stage."""
        now = time.perf_counter()
        self.stages[name], self.last = now - self.last, now

    def through(self, loader):
        """Returns the result of this process after one epoch."""
        batches = iter(loader)
        next(batches)
        self.stage("first batch")
        resident = resident_bytes()
        clips = 0
        for batch in batches:
            clips += len(batch["labels"])
        seconds = time.perf_counter() - self.last
        return {
            "first_batch": sum(self.stages.values()),
            "per_clip": seconds / clips,
            "resident": resident,
            "peak": resident_bytes("VmHWM"),
            "anonymous": resident_bytes("RssAnon"),
            "resident_before": self.resident_before,
            "stages": self.stages,
        }
