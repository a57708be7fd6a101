"""Predictions for reviews: the pipeline of a DyFuLM against the tools that users would run in its place."""

from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from hf_fusion.architectures.encoders import first_layers
from hf_fusion.data.temporary import temporary_folder
from hf_fusion.deployment.onnx_export import export_onnx, quantize, silence_exporter
from hf_fusion.deployment.onnx_fusion import GRAPH_FILE, OnnxFusion
from hf_fusion.models.modeling_dyfulm import DyFuLMForSequenceClassification
from hf_fusion.models.modeling_text_encoder import pretrained_encoder
from hf_fusion.models.pipeline_fusion_sentiment import FusionSentimentPipeline
from hf_fusion.models.processing_dyfulm import DyFuLMProcessor
from hf_fusion.studies.measure import BenchmarkOptions, Comparison, compare, timed_pairs
from scripts.benchmarks.inference import in_bf16, review_pipeline
from scripts.benchmarks.inputs import REVIEW_LIMIT, read_reviews, review_texts

_BATCH, _COUNT, _QUICK_COUNT = 32, 2000, 8
_CLASSES, _STUDENT_LAYERS = 5, 2
_TARGET = 0.75  # two encoders, against one


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Compares with one encoder in the pipeline of transformers; all sides read the same tokens of each review."""
    silence_exporter()
    texts = _texts(options)
    single = _plain_classifier(options)
    both = review_pipeline(options.text_encoder, options.device)
    student = _student(options)
    with temporary_folder() as folder:
        candidates = [
            ("two encoders, float32", _cut(both), _TARGET),
            ("two encoders, bf16", _cut(in_bf16(both)), 1.0),
            ("two encoders, ONNX int8", _cut(_int8(both, Path(folder, "two"))), 1.0),
            (f"a student of {_STUDENT_LAYERS} layers, float32", _cut(student), 1.0),
            (f"a student of {_STUDENT_LAYERS} layers, ONNX int8", _cut(_int8(student, Path(folder, "student"))), 1.0),
            ("encoder, mean pooling and logistic regression", _SentenceClassifier(options, texts), None),
        ]
        return [
            _compare(f"{len(texts)} reviews", texts, single, name, candidate, target, options)
            for name, candidate, target in candidates
        ]


def _cut(classify):
    """Answers from the first tokens of each text, as those of the reference."""
    return lambda texts, batch_size: classify(texts, batch_size=batch_size, long_texts="cut")


def _compare(what, texts, single, name, candidate, target, options):
    pairs = timed_pairs(
        lambda: single(texts, batch_size=_BATCH), lambda: candidate(texts, batch_size=_BATCH), options.repeats
    )
    reference = {"name": "one encoder, pipeline of transformers, float32"}
    return compare(what, "seconds", pairs, reference, {"name": name}, target)


def _texts(options):
    count = _QUICK_COUNT if options.quick else _COUNT
    return read_reviews(options.reviews, count) if options.reviews else review_texts(count, seed=0)


def _plain_classifier(options):
    """Builds the pipeline of transformers on the encoder, with a new head."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(options.text_encoder, num_labels=_CLASSES)
    tokenizer = AutoTokenizer.from_pretrained(options.text_encoder, model_max_length=REVIEW_LIMIT)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device=options.device)
    return lambda texts, batch_size: classify(texts, batch_size=batch_size, truncation=True)


def _student(options):
    torch.manual_seed(0)
    encoder = first_layers(pretrained_encoder(options.text_encoder), _STUDENT_LAYERS)
    model = DyFuLMForSequenceClassification.from_encoders(
        encoder, cross_fusion="a", layer_fusion="last", use_guidance=False
    )
    processor = DyFuLMProcessor(AutoTokenizer.from_pretrained(options.text_encoder), max_length=REVIEW_LIMIT)
    return FusionSentimentPipeline(model, processor=processor, device=options.device)


def _int8(classify, folder):
    export_onnx(classify.model, classify.processor, folder, num_checks=4)
    quantize(folder / GRAPH_FILE)
    return OnnxFusion.from_pretrained(folder, torch.get_num_threads())


class _SentenceClassifier:
    """Logistic regression on the mean token state of the encoder, as SetFit does it; batches of like length."""

    def __init__(self, options, texts):
        self.device = options.device
        self.model = AutoModel.from_pretrained(options.text_encoder).eval().to(options.device)
        self.tokenizer = AutoTokenizer.from_pretrained(options.text_encoder, model_max_length=REVIEW_LIMIT)
        sample = texts[: 4 * _CLASSES]
        labels = [i % _CLASSES for i in range(len(sample))]
        self.head = LogisticRegression().fit(self.embed(sample, _BATCH), labels)

    def __call__(self, texts, batch_size):
        return self.head.predict_proba(self.embed(texts, batch_size))

    def embed(self, texts, batch_size):
        """Computes the mean states `(texts, hidden_size)`."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)
        states = torch.empty(len(texts), self.model.config.hidden_size)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = self.tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                hidden = self.model(**batch.to(self.device)).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            states[rows] = ((hidden * mask).sum(1) / mask.sum(1)).cpu()
        return states.numpy()
