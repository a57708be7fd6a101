"""Overhead of `FusionTrainer` over a bare loop with the same model, batches, optimizer and gradient clipping."""

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, BertConfig
from transformers.trainer_callback import PrinterCallback

from hf_fusion.architectures.clips import encode_clips
from hf_fusion.architectures.reviews import encode_reviews
from hf_fusion.data.clips import collect_clips
from hf_fusion.data.temporary import temporary_folder
from hf_fusion.models.configuration_dyfulm import DyFuLMConfig
from hf_fusion.models.feature_extraction_dashfusion import DashFusionFeatureExtractor
from hf_fusion.models.modeling_dashfusion import DashFusionForSequenceClassification
from hf_fusion.models.modeling_dyfulm import DyFuLMForSequenceClassification
from hf_fusion.models.processing_dashfusion import DashFusionProcessor
from hf_fusion.models.processing_dyfulm import DyFuLMProcessor
from hf_fusion.studies.measure import BenchmarkOptions, Comparison, StepClock, alternate, compare
from hf_fusion.training.arguments import FusionTrainingArguments
from hf_fusion.training.sampler import LengthBucketSampler
from hf_fusion.training.trainer import FusionTrainer
from scripts.benchmarks.inputs import MOSI, REVIEW_LIMIT, corpus, review_texts
from scripts.benchmarks.train_step import ClockCallback

TARGET = 0.9
WARMUP_STEPS = 3


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Compares the seconds per step of a bare loop and of `FusionTrainer`, for a small model of each architecture."""
    disable_progress_bars()
    steps, batch_size = (3, 2) if options.quick else (20, 8)
    steps += WARMUP_STEPS
    comparisons = []
    for name, build in (("DashFusion", small_dashfusion), ("DyFuLM", small_dyfulm)):
        case = build(options.text_encoder, steps * batch_size)
        with temporary_folder() as folder:
            args = training_arguments(folder, batch_size, options.device)
            pairs = alternate(
                lambda c=case, a=args: bare_loop(*c, a),
                lambda c=case, a=args: trainer_loop(*c, a),
                options.repeats,
            )
        facts = [
            {"name": side, "steps_per_second": 1 / cost}
            for side, cost in zip(("bare loop", "FusionTrainer"), np.median(pairs, axis=0).tolist(), strict=True)
        ]
        what = f"{name}, small, a step of {batch_size}"
        comparisons.append(compare(what, "seconds", pairs, *facts, target=TARGET))
    return comparisons


def training_arguments(folder: str, batch_size: int, device: str) -> FusionTrainingArguments:
    """Returns arguments for one epoch with logging, without evaluation and checkpoints."""
    return FusionTrainingArguments(
        folder, num_train_epochs=1, per_device_train_batch_size=batch_size, eval_strategy="no", save_strategy="no",
        load_best_model_at_end=False, report_to="none", disable_tqdm=True, use_cpu=torch.device(device).type == "cpu",
    )  # fmt: skip


def bare_loop(model, processor, rows, args) -> float:
    """Measures the seconds per step of a plain PyTorch loop."""
    trainer = FusionTrainer(model, args, train_dataset=rows, processing_class=processor)
    batch_size, device = args.per_device_train_batch_size, args.device
    order = list(LengthBucketSampler(list(rows["length"]), batch_size, args.seed))
    loader = DataLoader(rows, batch_size, sampler=order, collate_fn=trainer.data_collator)
    trainer.create_optimizer_and_scheduler(len(loader))
    optimizer, scheduler = trainer.optimizer, trainer.lr_scheduler
    model.train().to(device)
    clock = StepClock(WARMUP_STEPS)
    for step, batch in enumerate(loader):
        clock.begin(step)
        loss = model(**{name: values.to(device) for name, values in batch.items()}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        clock.end(step + 1)
    return clock.seconds_per_step()


def trainer_loop(model, processor, rows, args) -> float:
    """Measures the seconds per step of [`FusionTrainer`]."""
    clock = StepClock(WARMUP_STEPS)
    trainer = FusionTrainer(
        model, args, train_dataset=rows, processing_class=processor, callbacks=[ClockCallback(clock)]
    )
    trainer.remove_callback(PrinterCallback)  # its output would mix with that of the benchmark
    trainer.train()
    return clock.seconds_per_step()


def small_dashfusion(text_encoder: str, count: int):
    """Returns model, processor and encoded clips with the shape of MOSI; the text encoder is small and new."""
    tokenizer = AutoTokenizer.from_pretrained(text_encoder)
    torch.manual_seed(0)
    model = DashFusionForSequenceClassification.from_text_encoder(_small_encoder(tokenizer), **MOSI.config_fields)
    processor = DashFusionProcessor(tokenizer, DashFusionFeatureExtractor(**MOSI.config_fields))
    table = collect_clips(corpus(MOSI, count))["train"]
    return model, processor, encode_clips(table, processor)


def small_dyfulm(text_encoder: str, count: int):
    """Returns model, processor and encoded reviews with the lengths of the hotel reviews; both encoders are new."""
    tokenizer = AutoTokenizer.from_pretrained(text_encoder)
    torch.manual_seed(0)
    model = DyFuLMForSequenceClassification(DyFuLMConfig(_small_encoder(tokenizer), _small_encoder(tokenizer)))
    processor = DyFuLMProcessor(tokenizer, max_length=REVIEW_LIMIT)
    labels = np.arange(count) % 5
    columns = {"labels": labels, "coarse_labels": labels // 2, "intensity_labels": labels / 4}
    reviews = Dataset.from_dict({"text": review_texts(count, seed=0), **columns})
    return model, processor, encode_reviews(reviews, processor)


def _small_encoder(tokenizer):
    return BertConfig(
        vocab_size=len(tokenizer), hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256
    )
