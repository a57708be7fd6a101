"""A small training of a DashFusion."""

import numpy as np
import pytest
from datasets import Dataset

from hf_fusion import FusionTrainer, FusionTrainingArguments

CLIPS = 22


@pytest.fixture
def clip_dataset(clip_processor, clip_config):
    rng = np.random.default_rng(0)
    config = clip_config()
    texts = [" ".join(rng.choice(["good", "bad", "room", "staff", "not"], rng.integers(1, 6))) for _ in range(CLIPS)]
    rows = {**clip_processor.encode_text(texts), "labels": rng.integers(-3, 4, CLIPS).astype(float).tolist()}
    rows["audio"] = [rng.normal(size=(rng.integers(1, 7), config.audio_feature_size)).tolist() for _ in texts]
    rows["vision"] = [rng.normal(size=(rng.integers(1, 5), config.vision_feature_size)).tolist() for _ in texts]
    rows["length"] = [max(map(len, parts)) for parts in zip(rows["input_ids"], rows["audio"], strict=True)]
    return Dataset.from_dict(rows)


@pytest.fixture
def make_clip_trainer(clip_model, clip_processor, clip_dataset, tmp_path):
    def make(name="run", model=None, train_dataset=None, **fields):
        options = {"num_train_epochs": 3, "per_device_train_batch_size": 4, "logging_steps": 1, "report_to": "none",
                   "disable_tqdm": True, "use_cpu": True, "save_strategy": "no", "eval_strategy": "no",
                   "load_best_model_at_end": False, "learning_rate": 1e-3, "contrastive_partners": "mined"}  # fmt: skip
        args = FusionTrainingArguments(str(tmp_path / name), **{**options, **fields})
        data = clip_dataset if train_dataset is None else train_dataset
        return FusionTrainer(
            model or clip_model(), args, train_dataset=data, eval_dataset=clip_dataset, processing_class=clip_processor
        )

    return make
