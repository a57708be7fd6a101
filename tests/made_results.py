"""Results as commands write them, of made numbers: a study with its tables, a benchmark, a page, a card."""

import json
from pathlib import Path

import numpy as np
import yaml

from hf_fusion.architectures.measure_protocol import MaskedPredictions, ProtocolSettings
from hf_fusion.architectures.write_protocol import (
    measure_curves,
    protocol_latex,
    tidy_protocol,
    write_masked_predictions,
)
from hf_fusion.evaluation.kept_predictions import Predictions, measure_predictions
from hf_fusion.evaluation.tables import latex_table
from hf_fusion.studies.folds import mean_over_folds
from hf_fusion.studies.measure import compare
from hf_fusion.studies.predictions import RunKey, write_study_predictions
from hf_fusion.studies.record_tables import render_page
from hf_fusion.studies.results import tidy
from hf_fusion.studies.study_tables import latex_note, latex_rows, markdown_table
from hf_fusion.studies.summaries import summarize
from hf_fusion.utils.records import write_json

CONFIG = {
    "model_type": "dashfusion", "num_labels": 1, "id2label": {"0": "LABEL_0"}, "problem_type": None,
    "label_range": [-3, 3], "modalities": ["text"], "modality_dropout": 0.0, "modality_distillation": 0.0,
}  # fmt: skip
LOG = {"last_log": {"gate_mean": 0.25}, "train_seconds": 2.5, "parameters": 100}
METRICS = ("mae", "corr")
FACTS = {
    "command": "hf-fusion study made",
    "versions": {"torch": "2.13.0", "transformers": "5.24.0"},
    "hardware": {"processor": "made", "cores": 2, "accelerators": []},
}
PAGE = """# Made results

The error falls by 0.1 from seed to seed.

<!-- table: {source: made, metrics: [mae, corr]} -->
<!-- /table -->
"""


def make_study(results: Path, splits: tuple[str, ...] = ("test", "noisy")) -> Path:
    """Writes a study with three variants and seeds; returns its JSON file."""
    numbers = np.random.default_rng(0)
    runs = {
        name: {
            seed: {split: {metric: float(numbers.uniform()) for metric in METRICS} for split in ("validation", *splits)}
            | LOG
            for seed in (1, 2, 3)
        }
        for name in ("full", "no gate", "mean & gate")
    }
    summaries = {split: summarize(runs, split) for split in splits}
    record = {
        "study": "made.yaml", "recipe": "made", "overrides": {}, "interval": "t", "variants": summaries["test"],
        "evaluate_on": {split: {"data": {}, "variants": summaries[split]} for split in splits[1:]},
        "paper": {"no gate": {"mae": -0.0055}}, **FACTS,
    }  # fmt: skip
    path = results / "made.json"
    write_json(path, record)
    tidy(runs, ["validation", *splits]).to_csv(path.with_suffix(".csv"), index=False)
    tables = [f"### {split}\n\n{markdown_table(summaries[split], METRICS, record['paper'] if split == 'test' else {})}"
              for split in splits]  # fmt: skip
    path.with_suffix(".md").write_text("\n".join(tables))
    tables = [
        f"% {split}\n{latex_table(latex_rows(summaries[split], METRICS), latex_note(summaries['test']))}"
        for split in splits
    ]
    path.with_suffix(".tex").write_text("\n".join(tables))
    return path


def make_predictions(rows: int, seed: int, **facts) -> Predictions:
    """Returns predictions of a score for some rows of the test split."""
    truth, noise = np.random.default_rng(0).uniform(-3, 3, rows), np.random.default_rng(seed).normal(size=rows)
    labels, scores = {"labels": truth.astype(np.float32)}, (truth + noise).astype(np.float32)[:, None]
    ids = np.arange(rows).astype(str).astype(object)
    return Predictions(ids, np.full(rows, "test", object), labels, {"logits": scores}, {"config": CONFIG, **facts})


def make_study_with_predictions(
    results: Path, folds: tuple[str | None, ...] = (None,), lost: str = "", **facts
) -> Path:
    """Writes a study on two data sets, and the predictions of all variants but `lost`; returns its JSON file."""
    kept = {
        RunKey(name, seed, fold, data): make_predictions(20, hash_of(name, seed, fold, data), **facts)
        for name in ("full", "plain") for seed in (1, 2, 3) for fold in folds for data in ("test", "noisy")
    }  # fmt: skip
    runs: dict = {}
    for key, predictions in kept.items():
        by_fold = runs.setdefault(key.variant, {}).setdefault(key.seed, {}).setdefault(key.fold, dict(LOG))
        by_fold[key.data] = measure_predictions(predictions)
    kept = {key: predictions for key, predictions in kept.items() if key.variant != lost}
    runs = {name: {seed: mean_over_folds(by_fold, ("test", "noisy")) if folds != (None,) else by_fold[None]
                   for seed, by_fold in by_seed.items()} for name, by_seed in runs.items()}  # fmt: skip
    record = {
        "study": "kept.yaml", "recipe": "made", "overrides": {}, "interval": "t",
        "variants": summarize(runs, "test", predictions=kept),
        "evaluate_on": {"noisy": {"data": {}, "variants": summarize(runs, "noisy", predictions=kept)}}, **FACTS,
        "predictions": write_study_predictions(results / "predictions" / "kept.parquet", kept),
    }  # fmt: skip
    path = results / "kept.json"
    write_json(path, record)
    return path


def make_protocol(folder: Path, settings: ProtocolSettings) -> Path:
    """Writes the record of a protocol, its tables and its predictions; returns its JSON file."""
    masked = [
        MaskedPredictions(condition, seed, {}, make_predictions(20, hash_of(condition.name, seed)))
        for condition in settings.resolve().conditions
        for seed in ([None] if condition.is_complete else settings.resolve_seeds())
    ]
    facts = {
        "settings": settings.to_dict(), "data_fingerprint": {"test": "made"},
        "weights_sha256": {"model.safetensors": "made"}, "checkpoint": "run",
    }  # fmt: skip
    record = {
        "protocol": settings.protocol, "title": "made", "rows": 20, "main_metrics": list(METRICS), **facts,
        **measure_curves(masked, settings), **FACTS,
    }  # fmt: skip
    path = folder / "protocol.json"
    write_json(path, record)
    tidy_protocol(record).to_csv(path.with_suffix(".csv"), index=False)
    path.with_suffix(".tex").write_text(protocol_latex(record), encoding="utf-8")
    write_masked_predictions(folder / "predictions.parquet", masked, facts)
    return path


def hash_of(*words) -> int:
    """Returns a seed from words."""
    return sum(map(ord, "".join(map(str, words))))


def make_benchmark(results: Path) -> Path:
    """Writes a benchmark of one comparison; returns its JSON file."""
    pairs = [(3.0, 1.0), (3.5, 1.5), (2.0, 1.0)]
    comparison = compare("made", "seconds", pairs, {"name": "old"}, {"name": "new"}, target=2.0)
    path = results / "benchmark_made.json"
    write_json(path, {"benchmark": "made", "comparisons": [comparison], **FACTS})
    return path


def make_page(path: Path, results: Path, text: str = PAGE) -> Path:
    """Writes a page with its tables; returns it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_page(text, path, results), encoding="utf-8")
    return path


def make_card(path: Path, test: dict[str, float], validation: dict[str, float]) -> Path:
    """Writes a model card with the metrics of a run; returns it."""
    metrics = [{"type": name, "value": value} for name, value in test.items()]
    index = [{"name": "made", "results": [{"dataset": {"name": "made", "split": "test"}, "metrics": metrics}]}]
    rows = [f"| {name} | {validation[name]:.4f} | {test[name]:.4f} |" for name in test]
    table = ["| metric | validation (5 clips) | test (4 clips) |", "|---|---|---|", *rows]
    path.write_text(f"---\n{yaml.safe_dump({'model-index': index})}---\n\n# made\n\n" + "\n".join(table) + "\n")
    return path


def change(path: Path, mend) -> None:
    """Changes the content of a JSON file in place."""
    content = json.loads(path.read_text(encoding="utf-8"))
    mend(content)
    path.write_text(json.dumps(content), encoding="utf-8")
