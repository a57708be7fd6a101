from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from hf_fusion.training.recipe import parse_data_arguments, parse_recipe, resolved_recipe
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.records import describe_environment

RECIPES = sorted((Path(__file__).parents[2] / "hf_fusion/recipes").glob("*.yaml"))


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "output_dir: runs/x\nlearning_rate: 1e-4\n"
        "encoder_a: {model_type: bert, tokenizer: bpe}\nencoder_b: acme/encoder\n"
        "columns: {text: review}\nscale: [0, 10]\nuse_guidance: false\nloss_weights: [1, 2, 3]\n"
    )
    return str(path)


def test_recipe_then_flags(recipe):
    model, data, training = parse_recipe(
        [
            "--config",
            recipe,
            "--learning_rate",
            "2e-4",
            "--cross_fusion",
            "mean",
            "--columns",
            '{"text": "body"}',
            "--seed=7",
        ]
    )
    assert training.learning_rate == 2e-4 and training.seed == 7 and training.output_dir == "runs/x"
    assert model.encoder_a == {"model_type": "bert", "tokenizer": "bpe"} and model.encoder_b == "acme/encoder"
    assert model.config_fields() == {"cross_fusion": "mean", "use_guidance": False, "loss_weights": [1, 2, 3]}
    assert data.source().columns == {"text": "body"} and data.source().rules.scale == (0, 10)


def test_numbers_that_yaml_takes_for_strings(recipe):
    assert parse_recipe(["--config", recipe])[2].learning_rate == 1e-4


def test_encoder_from_scratch_by_flag(recipe):
    model, _, _ = parse_recipe(
        [f"--config={recipe}", "--encoder_b", '{"model_type": "deberta-v2", "tokenizer": "unigram"}']
    )
    assert model.encoder_b == {"model_type": "deberta-v2", "tokenizer": "unigram"}


def test_resolved_recipe_repeats_the_run(recipe, tmp_path):
    first = parse_recipe(["--config", recipe, "--cross_fusion", "a", "--num_train_epochs", "2", "--bf16", "true"])
    resolved = resolved_recipe(*first)
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(resolved))
    again = parse_recipe(["--config", str(path)])
    assert resolved_recipe(*again) == resolved
    assert again[0] == first[0] and again[1] == first[1]
    assert again[2].num_train_epochs == 2 and again[2].bf16
    assert set(resolved) == {
        "output_dir", "learning_rate", "encoder_a", "encoder_b", "columns", "scale", "use_guidance", "loss_weights",
        "cross_fusion", "num_train_epochs", "bf16", "metric_for_best_model", "greater_is_better", "dataset",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("learning_rat: 1", "unknown field learning_rat"),
        ("- a\n- b", "a recipe is a mapping.*list"),
        ("a: [", "no valid YAML"),
        ("!!python/object/apply:os.system ['touch /tmp/never']", "no valid YAML"),
    ],
)
def test_files_that_are_no_recipe(tmp_path, content, words):
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError, match=words):
        parse_recipe(["--config", str(path)])


def test_options_of_one_data_set_do_not_reach_another(recipe):
    with open(recipe, "a") as file:
        file.write("dataset: synthetic-reviews\ndataset_options: {num_train: 5}\n")
    assert parse_recipe(["--config", recipe])[1].dataset_options == {"num_train": 5}
    assert parse_recipe(["--config", recipe, "--dataset", "my.csv"])[1].dataset_options is None


def test_missing_file():
    with pytest.raises(RecipeError, match="no such recipe"):
        parse_recipe(["--config", "nowhere.yaml"])


def test_mapping_that_is_none(recipe):
    with pytest.raises(RecipeError, match="`columns` must be a JSON mapping"):
        parse_recipe(["--config", recipe, "--columns", "text=review"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path):
    model, data, training = parse_recipe(["--config", str(path)])
    assert model.model_type == path.stem.split("_")[0] and training.output_dir == f"runs/{path.stem}"
    if model.model_type == "dyfulm":
        assert data.source().rules.num_labels == (None if data.dataset == "my_reviews.csv" else 5)
        assert model.encoder_a and (model.encoder_b or model.cross_fusion == "a") and training.metric_for_best_model
    else:
        assert model.text_encoder or "text" not in data.modalities
        if training.eval_strategy != "no":  # otherwise the last epoch counts
            assert training.metric_for_best_model == ("uar" if data.classes else "mae")
            assert training.greater_is_better is bool(data.classes)
        is_narrow = path.stem in ("dashfusion_sims", "dashfusion_ravdess_valence")
        assert data.classes or data.source().label_range == ((-1, 1) if is_narrow else (-3, 3))


@pytest.mark.parametrize(
    ("model_type", "flag", "value", "owner"),
    [
        ("dyfulm", "fusion", "concat", "dashfusion"),
        ("dashfusion", "cross_fusion", "mean", "dyfulm"),
    ],
)
def test_fields_of_the_other_architecture_are_refused(model_type, flag, value, owner):
    argv = ["--output_dir", "x", "--model_type", model_type, f"--{flag}", *value.split()]
    with pytest.raises(RecipeError, match=f"`{flag}` belongs to {owner}, but the recipe's model_type is {model_type}"):
        parse_recipe(argv)


@pytest.mark.parametrize(
    ("model_type", "flag", "value", "owner", "kind"),
    [("dyfulm", "modalities", "text", "clips", "reviews"), ("dashfusion", "scale", "1 5", "reviews", "clips")],
)
def test_fields_of_other_data_are_refused(model_type, flag, value, owner, kind):
    argv = ["--output_dir", "x", "--model_type", model_type, f"--{flag}", *value.split()]
    with pytest.raises(RecipeError, match=f"`{flag}` is a field of {owner}, but this model reads {kind}"):
        parse_recipe(argv)


def test_unknown_architecture():
    with pytest.raises(RecipeError, match=r"model_type.*invalid choice: 'bert'.*dyfulm.*dashfusion"):
        parse_recipe(["--output_dir", "x", "--model_type", "bert"])


def test_data_set_that_belongs_to_the_architecture():
    assert parse_recipe(["--output_dir", "x"])[1].dataset == "synthetic-reviews"
    assert parse_recipe(["--output_dir", "x", "--model_type", "dashfusion"])[1].dataset == "synthetic-clips"


@pytest.mark.parametrize("value", ["audio", "[audio]"])
def test_a_single_word_is_a_list_of_one(tmp_path, value):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"output_dir: x\nmodel_type: dashfusion\nmodalities: {value}\nclasses: auto\nreport_to: none\n")
    _, data, training = parse_recipe(["--config", str(path)])
    assert data.modalities == ["audio"] and data.classes == ["auto"] and training.report_to == []
    assert data.source().classes == ("auto",) and data.source().label_range is None
    assert parse_recipe(["--config", str(path), "--classes", "sad", "calm"])[1].classes == ["sad", "calm"]


def test_data_of_a_checkpoint(tmp_path):
    @dataclass
    class Own:
        checkpoint: str

    (tmp_path / "config.yaml").write_text(
        "dataset: synthetic-clips\nmax_eval_samples: 7\naugmentations: {typos: 3}\n"
        "missing_protocol: lnln\nmissing_rates: [0.5]\nmissing_redraw: false\n"
    )
    own, data_args = parse_data_arguments(Own, [str(tmp_path), "--damage", '{"typos": 2}'])
    assert own.checkpoint == str(tmp_path) and data_args.dataset == "synthetic-clips"
    assert data_args.max_eval_samples == 7 and data_args.damage == {"typos": 2}
    assert data_args.augmentations is None and data_args.train_masks() is None, "these were of the training"
    with pytest.raises(RecipeError, match="`augmentations` is for training; use `damage`"):
        parse_data_arguments(Own, [str(tmp_path), "--augmentations", '{"typos": 2}'])
    with pytest.raises(RecipeError, match="`missing_protocol` is for training"):
        parse_data_arguments(Own, [str(tmp_path), "--missing_protocol", "lnln"])
    with pytest.raises(FileNotFoundError, match="other: no such folder"):
        parse_data_arguments(Own, [str(tmp_path / "other")])
    (tmp_path / "other").mkdir()
    with pytest.raises(RecipeError, match=r"no config\.yaml with its data"):
        parse_data_arguments(Own, [str(tmp_path / "other")])


def test_tokens_are_in_no_record(recipe, monkeypatch):
    flags = ["--config", recipe, "--hub_token", "hf_SECRET"]
    assert "SECRET" not in str(resolved_recipe(*parse_recipe(flags)))
    monkeypatch.setattr("sys.argv", ["scripts/train.py", *flags, "--hub_token=hf_SECRET"])
    command = describe_environment()["command"]
    assert "SECRET" not in command and "--hub_token ... --hub_token=..." in command


@pytest.mark.parametrize(
    "flag", ["--hub-token=hf_SECRET", "--set hub_token=hf_SECRET", "--set variants.a.hub_token=hf_SECRET"]
)
def test_tokens_of_any_spelling_are_in_no_command(monkeypatch, flag):
    monkeypatch.setattr("sys.argv", ["hf-fusion", "study", "mine", *flag.split()])
    assert "SECRET" not in describe_environment()["command"]
    monkeypatch.setattr("sys.argv", ["hf-fusion", "train", "--hub-token", "hf_SECRET"])
    assert "SECRET" not in describe_environment()["command"]


def test_an_unknown_flag_is_named_with_a_near_one(recipe):
    with pytest.raises(RecipeError, match=r"No flag takes --evl_strategy no\. Did you mean --eval_strategy\?"):
        parse_recipe(["--config", recipe, "--evl_strategy", "no"])


def test_an_abbreviated_flag_is_none(recipe):
    """`--conf` would be taken for `--config` by the parser, but its recipe would not be read."""
    with pytest.raises(RecipeError, match="--conf"):
        parse_recipe(["--conf", recipe, "--output_dir", "x"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--lora_rank", "4"], "`lora_rank` does nothing without `lora_encoders`"),
        (["--no_merge_lora"], "`merge_lora` does nothing without `lora_encoders`"),
        (["--lora_encoders", "a", "--lora_rank", "0"], "`lora_rank` must be at least 1"),
        (["--max_eval_samples", "-3"], "`max_eval_samples` must be at least 1, got -3"),
        (["--max_train_samples", "0"], "`max_train_samples` must be at least 1, got 0"),
    ],
)
def test_fields_without_an_effect_are_refused(flags, words):
    with pytest.raises(RecipeError, match=words):
        parse_recipe(["--output_dir", "x", *flags])
