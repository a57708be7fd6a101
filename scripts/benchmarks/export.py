"""Exported models: ONNX Runtime in float32 and int8 against PyTorch in float32, on the CPU."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer

from hf_fusion.architectures.evaluate_checkpoint import load_split
from hf_fusion.data.temporary import temporary_folder
from hf_fusion.deployment.onnx_export import export_onnx, quantize, silence_exporter
from hf_fusion.deployment.onnx_fusion import GRAPH_FILE, OnnxFusion
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation.evaluate_reviews import evaluate_reviews
from hf_fusion.evaluation.kept_predictions import predict_labelled
from hf_fusion.models.modeling_dyfulm import DyFuLMForSequenceClassification
from hf_fusion.models.pipeline_fusion_sentiment import FusionSentimentPipeline
from hf_fusion.models.processing_dyfulm import DyFuLMProcessor
from hf_fusion.studies.measure import BenchmarkOptions, Comparison, compare, timed_pairs
from hf_fusion.training.recipe import parse_data_arguments
from hf_fusion.utils.errors import DataError
from scripts.benchmarks.inference import review_pipeline
from scripts.benchmarks.inputs import REVIEW_LIMIT, review_texts

_BATCH = 32
_TARGET = 2.5  # least speed-up of int8
_CHECKS = 20
METRICS = ("fine_accuracy", "fine_macro_f1", "coarse_accuracy", "coarse_macro_f1", "intensity_mae")


@dataclass
class _Reviews:
    checkpoint: str = field(metadata={"help": "A run folder."})
    split: str = field(default="test", metadata={"help": "train, validation or test."})


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Compares PyTorch with ONNX Runtime in float32 and int8: speed in batches and one by one, and file size."""
    silence_exporter()
    plain = review_classifier(options)
    rows = labelled_reviews(plain, options)
    with temporary_folder() as folder:
        folders = {"float32": Path(folder, "float32"), "int8": Path(folder, "int8")}
        export_onnx(plain.model, plain.processor, folders["float32"], num_checks=_CHECKS)
        shutil.copytree(folders["float32"], folders["int8"])
        quantize(folders["int8"] / GRAPH_FILE)
        exported = {name: OnnxFusion.from_pretrained(path, torch.get_num_threads()) for name, path in folders.items()}
        sizes = {name: (path / GRAPH_FILE).stat().st_size for name, path in folders.items()}

        reference = {"name": "PyTorch, float32", **_quality(plain, rows)}
        comparisons = []
        for name, classify in exported.items():
            facts = {"name": f"ONNX Runtime, {name}", **_quality(classify, rows)}
            comparisons += _speed(plain, classify, reference, facts, options, _TARGET if name == "int8" else None)
        pair = (float(sizes["float32"]), float(sizes["int8"]))
        names = [{"name": f"ONNX, {name}"} for name in sizes]
        return [*comparisons, compare("DyFuLM, file of the graph", "bytes", [pair], *names)]


def review_classifier(options: BenchmarkOptions) -> FusionSentimentPipeline:
    """Loads the pipeline of the checkpoint, or builds that of an untrained DyFuLM; on the CPU."""
    if options.checkpoint:
        try:
            classify = load_pipeline(options.checkpoint, device="cpu")
        except (OSError, ValueError) as error:
            raise DataError(f"{options.checkpoint}: {str(error).splitlines()[0]}") from error
        if classify.model.config.frame_columns:
            raise DataError(f"--checkpoint {options.checkpoint} is not a DyFuLM; this benchmark measures reviews.")
        return classify
    if not options.quick:
        return review_pipeline(options.text_encoder)
    shallow = [AutoConfig.from_pretrained(options.text_encoder, num_hidden_layers=1) for _ in range(2)]
    model = DyFuLMForSequenceClassification.from_encoders(*shallow)
    processor = DyFuLMProcessor(AutoTokenizer.from_pretrained(options.text_encoder), max_length=REVIEW_LIMIT)
    return FusionSentimentPipeline(model, processor=processor, device="cpu")


def labelled_reviews(classify: FusionSentimentPipeline, options: BenchmarkOptions):
    """Returns labelled reviews if there is a checkpoint."""
    if not options.checkpoint:
        return None
    args, data_args = parse_data_arguments(_Reviews, [options.checkpoint, *options.data])
    return load_split(classify.model.config, data_args, args.split)


def _quality(classify, rows):
    if rows is None:
        return {}
    metrics = evaluate_reviews(predict_labelled(classify, rows, batch_size=_BATCH))
    return {"reviews": len(rows), "metrics": {name: metrics[name] for name in METRICS if name in metrics}}


def _speed(plain, exported, reference, candidate, options, target):
    """Measures reviews in batches and one by one."""
    texts = review_texts(4 if options.quick else 4 * _BATCH, seed=0)
    single = texts[: 2 if options.quick else _BATCH]
    ways = {
        f"DyFuLM, {len(texts)} reviews, batches of {_BATCH}": lambda classify: classify(texts, batch_size=_BATCH),
        f"DyFuLM, {len(single)} reviews, one by one": lambda classify: [classify(text) for text in single],
    }
    comparisons = []
    for what, way in ways.items():
        pairs = timed_pairs(lambda w=way: w(plain), lambda w=way: w(exported), options.repeats)
        comparisons.append(compare(what, "seconds", pairs, reference, candidate, target))
    return comparisons
