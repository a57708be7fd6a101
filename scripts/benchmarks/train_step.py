"""Training with the contrastive losses: partners from the batch against partners encoded again."""

from dataclasses import replace

import torch
from datasets import disable_progress_bars
from transformers import AutoTokenizer, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from hf_fusion.architectures.clips import encode_clips
from hf_fusion.data.clips import collect_clips
from hf_fusion.data.collator import FusionCollator
from hf_fusion.data.temporary import temporary_folder
from hf_fusion.models.feature_extraction_dashfusion import DashFusionFeatureExtractor
from hf_fusion.models.modeling_dashfusion import DashFusionForSequenceClassification
from hf_fusion.models.processing_dashfusion import DashFusionProcessor
from hf_fusion.studies.measure import BenchmarkOptions, Comparison, StepClock, compare
from hf_fusion.training.arguments import FusionTrainingArguments
from hf_fusion.training.trainer import FusionTrainer
from scripts.benchmarks.inputs import MOSI, corpus

TARGET = 15
BATCH_SIZE = 16
REFERENCE = {"contrastive_partners": "encoded"}
MINED = {"contrastive_partners": "mined", "mining_embeddings": "refresh"}
# The changes in the training arguments, and in the configuration.
CANDIDATES = {
    "clips of the batch": ({"contrastive_partners": "batch"}, {}),
    "mined batches": (MINED, {}),
    "mined batches, no dropout of attention weights": (MINED, {"attention_probs_dropout_prob": 0.0}),
}


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Compares the seconds of training per clip, on clips with the shape of MOSI.

    The reference is the paper's procedure: six partners are encoded with each clip, everything is padded to the limits,
    in float32. A candidate runs a whole epoch with all lengths; all steps of the reference have the same cost,
    so that a few are enough. Mining itself is not included.
    """
    disable_progress_bars()
    processor, rows = encoded_clips(options, 24 if options.quick else 320)

    def seconds(model, fields, **limits):
        return seconds_per_clip(model, processor, rows, options, fields, **limits)

    models = {name: build_clip_model(options, **changes) for name, (_, changes) in CANDIDATES.items()}
    sides = {None: lambda: seconds(next(iter(models.values())), REFERENCE, padding="max_length", max_steps=2)}
    for name, (fields, _) in CANDIDATES.items():
        sides[name] = lambda m=models[name], f=fields: seconds(m, f)
        seconds(models[name], fields, max_steps=1)  # warm-up
    rounds = []
    for number in range(options.repeats):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        rounds.append({name: sides[name]() for name in order})
    return [_comparison(name, [(one[None], one[name]) for one in rounds]) for name in CANDIDATES]


def _comparison(name, pairs):
    fields, config_fields = CANDIDATES[name]
    reference = {"name": "partners encoded again, padded to the limits", **REFERENCE}
    candidate = {"name": name, **fields, **config_fields}
    record = compare(f"MOSI shapes, batch {BATCH_SIZE}", "seconds a clip", pairs, reference, candidate, TARGET)
    for side in ("reference", "candidate"):
        record[side]["clips_per_second"] = 1 / record[side]["median"]
    return record


def seconds_per_clip(model, processor, rows, options, fields, padding=True, max_steps=-1) -> float:
    """Measures the seconds of training per clip, over an epoch or `max_steps` steps after the first."""
    warmup = 1 if max_steps > 1 else 0
    clock = StepClock(warmup)
    with temporary_folder() as folder:
        args = FusionTrainingArguments(
            folder, num_train_epochs=1, max_steps=max_steps + warmup if max_steps > 0 else -1,
            per_device_train_batch_size=BATCH_SIZE, eval_strategy="no", save_strategy="no", report_to="none",
            load_best_model_at_end=False, disable_tqdm=True, use_cpu=torch.device(options.device).type == "cpu",
            **fields,
        )  # fmt: skip
        collator = replace(FusionCollator(processor), padding=padding)
        trainer = FusionTrainer(
            model, args, collator, train_dataset=rows, processing_class=processor, callbacks=[ClockCallback(clock)]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.seconds_per_step() / BATCH_SIZE


class ClockCallback(TrainerCallback):
    """Marks start and end of steps in a [`StepClock`]."""

    def __init__(self, clock):
        self.clock = clock

    def on_step_begin(self, args, state, control, **kwargs):
        """Marks the start of a step."""
        self.clock.begin(state.global_step)

    def on_step_end(self, args, state, control, **kwargs):
        """Marks the end of a step."""
        self.clock.end(state.global_step)


def build_clip_model(options: BenchmarkOptions, **fields):
    """Builds a DashFusion of the paper's size on the pretrained text encoder."""
    torch.manual_seed(0)
    return DashFusionForSequenceClassification.from_text_encoder(options.text_encoder, **MOSI.config_fields, **fields)


def encoded_clips(options: BenchmarkOptions, count: int):
    """Returns a processor and `count` encoded clips with the shape of MOSI."""
    tokenizer = AutoTokenizer.from_pretrained(options.text_encoder)
    extractor = DashFusionFeatureExtractor(**MOSI.config_fields)
    processor = DashFusionProcessor(tokenizer, extractor, max_length=MOSI.words)
    table = collect_clips(corpus(MOSI, count))["train"]
    return processor, encode_clips(table, processor)
