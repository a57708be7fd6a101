"""The types that a checker sees in code as users write it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each line with the words that mypy must say of it, or none.
LINES = {
    "import hf_fusion": "",
    "from hf_fusion import FusionTrainer, FusionTrainingArguments, load_reviews": "",
    "from hf_fusion.data import LabelRules": "",
    'result = hf_fusion.train("recipe.yaml", seed=1)': "",
    "reveal_type(result)": '"hf_fusion.training.result.TrainingResult"',
    "reveal_type(result.trainer)": '"hf_fusion.training.trainer.FusionTrainer"',
    'reveal_type(hf_fusion.evaluate(result.folder, "reviews.csv"))': '"dict[str, float]"',
    "pipeline = hf_fusion.FusionSentimentPipeline.from_pretrained(result.folder)": "",
    "reveal_type(pipeline)": "FusionSentimentPipeline",
    'load_reviews("reviews.csv", columns={"text": "body"}, num_labels=3)': "",
    'load_reviews("reviews.csv", columns="body")': 'incompatible type "str"',
    'load_reviews("reviews.csv", rejected_rows="keep")': "incompatible type",
    'FusionTrainer(args=FusionTrainingArguments("runs"), column_mapping={"body": "text"})': "",
    'FusionTrainer(args=FusionTrainingArguments("runs"), column_mapping=["body"])': "incompatible type",
    "LabelRules(names=3)": 'incompatible type "int"',
    "hf_fusion.trian": "Module has no attribute",
}


def test_a_checker_sees_the_public_names(tmp_path):
    pytest.importorskip("mypy")
    path = tmp_path / f"user_{os.getpid()}.py"  # of a name that mypy has not in its cache
    path.write_text("\n".join(LINES) + "\n")
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary", str(path)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = dict.fromkeys(range(1, len(LINES) + 1), "")
    for line in process.stdout.splitlines():
        place, _, words = line.removeprefix(f"{path}:").partition(": ")
        assert place.isdigit(), f"{line} {process.stderr}"
        said[int(place)] += words
    for (code, expected), words in zip(LINES.items(), said.values(), strict=True):
        assert expected in words and bool(expected) == bool(words), f"{code}: {words or 'nothing'}"
