import re
from dataclasses import fields

import pytest
import torch
from transformers import TrainingArguments

from hf_fusion import FusionTrainingArguments
from hf_fusion.data.arguments import DataArguments
from hf_fusion.training.arguments import REFUSED
from hf_fusion.training.recipe import parse_recipe
from hf_fusion.utils.errors import RecipeError

# Every field of `TrainingArguments`, of all supported versions, and what a `FusionTrainer` makes of it.
# `Trainer` does what the field says.
PASSED_ON = {
    "output_dir", "per_device_train_batch_size", "num_train_epochs", "max_steps", "lr_scheduler_type", "warmup_steps",
    "warmup_ratio", "optim", "optim_args", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon",
    "gradient_accumulation_steps", "average_tokens_across_devices", "max_grad_norm", "bf16", "fp16", "bf16_full_eval",
    "fp16_full_eval", "tf32", "activation_checkpointing", "activation_checkpointing_kwargs", "gradient_checkpointing",
    "gradient_checkpointing_kwargs", "torch_compile", "torch_compile_backend", "torch_compile_mode",
    "neftune_noise_alpha", "torch_empty_cache_steps", "auto_find_batch_size", "logging_dir", "logging_steps",
    "logging_first_step", "log_on_each_node", "logging_nan_inf_filter", "include_num_input_tokens_seen", "log_level",
    "log_level_replica", "disable_tqdm", "run_name", "project", "trackio_space_id", "trackio_bucket_id",
    "trackio_static_space_id", "eval_steps", "eval_delay", "per_device_eval_batch_size", "prediction_loss_only",
    "eval_on_start", "eval_use_gather_object", "eval_accumulation_steps", "save_only_model", "save_steps",
    "save_on_each_node", "push_to_hub", "hub_token", "hub_model_id", "hub_always_push", "ignore_data_skip",
    "full_determinism", "seed", "parallelism_config", "dataloader_num_workers", "dataloader_persistent_workers",
    "dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order", "ddp_bucket_cap_mb",
    "ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend", "ddp_timeout", "fsdp", "fsdp_config", "deepspeed",
    "debug", "skip_memory_metrics", "do_train", "do_eval", "do_predict", "resume_from_checkpoint", "local_rank",
}  # fmt: skip
# The package does it in its own way, or checks it.
MAPPED = {
    "learning_rate", "lr_scheduler_kwargs", "logging_strategy", "report_to", "eval_strategy", "save_strategy",
    "save_total_limit", "hub_private_repo", "hub_strategy", "hub_revision", "load_best_model_at_end",
    "metric_for_best_model", "greater_is_better", "restore_callback_states_from_checkpoint", "data_seed", "use_cpu",
    "accelerator_config", "dataloader_drop_last", "dataloader_pin_memory", "label_names", "train_sampling_strategy",
    "length_column_name", "ddp_find_unused_parameters",
}  # fmt: skip
OTHER_VALUES = {
    "label_smoothing_factor": 0.1, "liger_kernel_config": {"rope": True}, "optim_target_modules": ["linear"],
    "eval_do_concat_batches": False, "include_for_metrics": ["inputs"],
}  # fmt: skip


@pytest.fixture
def arguments(tmp_path):
    return lambda **values: FusionTrainingArguments(output_dir=str(tmp_path), report_to="none", **values)


def test_every_inherited_field_is_known():
    groups = [PASSED_ON, MAPPED, set(REFUSED)]
    known = set().union(*groups)
    assert len(known) == sum(map(len, groups)), "a field stands in two groups"
    new = sorted({item.name for item in fields(TrainingArguments)} - known)
    assert not new, (
        f"transformers has new fields of TrainingArguments: {', '.join(new)}. Look whether FusionTrainer heeds them: "
        "it has samplers, loaders and an optimizer of its own. Name them in PASSED_ON or MAPPED above, or, if they "
        "would do nothing, in hf_fusion.training.arguments.REFUSED."
    )


@pytest.mark.parametrize("name", REFUSED)
def test_fields_that_would_do_nothing_are_refused(arguments, name):
    accepted, reason = REFUSED[name]
    arguments(**{name: accepted})
    other = OTHER_VALUES.get(name, True)
    with pytest.raises(ValueError, match=re.escape(f"`{name}` must stay {accepted!r}, got {other!r}: {reason}.")):
        arguments(**{name: other})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train_sampling_strategy": "group_by_length"}, "must be random or sequential.*`bucket_by_length`"),
        ({"train_sampling_strategy": "sequential"}, "sequential does nothing with bucket_by_length"),
        (
            {
                "train_sampling_strategy": "sequential",
                "bucket_by_length": False,
                "contrastive_partners": "mined",
            },
            "nor with mined or encoded partners",
        ),
        ({"contrastive_partners": "mined", "dataloader_drop_last": True}, "`dataloader_drop_last` does nothing"),
        ({"contrastive_partners": "encoded", "accelerator_config": {"split_batches": True}}, "`accelerator_config`"),
        ({"mining_margin": 0.1}, "`mining_margin` does nothing with contrastive_partners batch"),
        (
            {"early_stopping_patience": 2, "load_best_model_at_end": False},
            "`early_stopping_patience` needs `metric_for_best_model`",
        ),
    ],
)
def test_values_that_contradict_each_other(arguments, values, words):
    with pytest.raises(ValueError, match=words):
        arguments(**values)


def test_sequential_sampling(arguments):
    assert arguments(train_sampling_strategy="sequential", bucket_by_length=False)


class TestDirection:
    @pytest.mark.parametrize(
        ("metric", "greater"),
        [
            ("mae", False), ("eval_intensity_mae", False), ("fine_loss", False), ("rmse", False), ("brier", False),
            ("nll", False), ("corr", True), ("fine_accuracy", True), ("eval_acc2_non0", True), ("loss", False),
        ],
    )  # fmt: skip
    def test_is_that_of_the_metric(self, arguments, metric, greater):
        assert arguments(metric_for_best_model=metric).greater_is_better is greater
        assert arguments(metric_for_best_model=metric, greater_is_better=greater).greater_is_better is greater
        with pytest.raises(ValueError, match=f"{not greater} contradicts the metric {metric}, of which .* is better"):
            arguments(metric_for_best_model=metric, greater_is_better=not greater)

    def test_of_the_loss_by_default(self, arguments):
        args = arguments()
        assert args.metric_for_best_model == "loss" and args.greater_is_better is False
        with pytest.raises(ValueError, match="True contradicts the metric loss, of which less is better"):
            arguments(greater_is_better=True)

    def test_of_the_metric_that_the_data_selects(self, arguments):
        args = arguments()
        args.set_default_metric(None)
        assert args.metric_for_best_model == "loss"
        args.set_default_metric("uar")
        assert args.metric_for_best_model == "uar" and args.greater_is_better is True
        for args, kept in (
            (arguments(metric_for_best_model="loss"), "loss"), (arguments(metric_for_best_model="uar"), "uar"),
            (arguments(load_best_model_at_end=False), None),
        ):  # fmt: skip
            args.set_default_metric("uar")
            assert args.metric_for_best_model == kept

    def test_of_ones_own_metric(self, arguments):
        with pytest.raises(RecipeError, match=r"Unknown metric 'usefulness'.*set `greater_is_better`"):
            arguments(metric_for_best_model="usefulness")
        for greater in (True, False):
            args = arguments(metric_for_best_model="usefulness", greater_is_better=greater)
            assert args.greater_is_better is greater

    @pytest.mark.parametrize(("metric", "mode"), [("mae", "min"), ("corr", "max"), (None, "min")])
    def test_of_schedulers_that_watch_the_metric(self, arguments, metric, mode):
        args = arguments(metric_for_best_model=metric, lr_scheduler_type="reduce_lr_on_plateau")
        assert args.lr_scheduler_kwargs == {"mode": mode}
        own = {"patience": 3, "mode": "max"}
        args = arguments(lr_scheduler_type="reduce_lr_on_plateau", lr_scheduler_kwargs=own)
        assert args.lr_scheduler_kwargs == own
        assert not arguments(metric_for_best_model=metric).lr_scheduler_kwargs


class TestChoices:
    CHOICES = {
        "eval_strategy": "epoch, steps, no", "save_strategy": "epoch, steps, best, no",
        "hub_strategy": "end, every_save, checkpoint, all_checkpoints", "non_finite_loss": "stop, skip",
        "contrastive_partners": "batch, mined, encoded", "mining_embeddings": "bank, refresh or null",
        "mining_negatives": "nearest, random", "mining_index": "exact, faiss",
    }  # fmt: skip

    @pytest.mark.parametrize("name", CHOICES)
    def test_others_are_refused(self, arguments, name, tmp_path):
        message = f"{name}`? must be one of {self.CHOICES[name]}, got 'often'"
        with pytest.raises(RecipeError, match=message):
            arguments(**{name: "often"})
        (tmp_path / "recipe.yaml").write_text(f"output_dir: x\n{name}: often")
        with pytest.raises(RecipeError, match=message):
            parse_recipe(["--config", str(tmp_path / "recipe.yaml")])
        with pytest.raises(RecipeError, match="invalid choice: 'often'"):
            parse_recipe(["--output_dir", "x", f"--{name}", "often"])

    @pytest.mark.parametrize("name", ["rejected_rows", "missing_classes"])
    def test_of_the_data(self, name, tmp_path):
        (tmp_path / "recipe.yaml").write_text(f"output_dir: x\n{name}: often")
        with pytest.raises(RecipeError, match=f"{name} must be one of error, .*, got 'often'"):
            parse_recipe(["--config", str(tmp_path / "recipe.yaml")])
        with pytest.raises(RecipeError, match="invalid choice: 'often'"):
            parse_recipe(["--output_dir", "x", f"--{name}", "often"])

        with pytest.raises(RecipeError, match=f"`{name}` must be one of error, .*, got 'often'"):
            DataArguments(**{name: "often"}).complete("reviews")

    def test_no_as_yaml_reads_it(self, tmp_path):
        path = tmp_path / "recipe.yaml"
        path.write_text(
            "output_dir: x\neval_strategy: no\nsave_strategy: no\nlogging_strategy: no\nreport_to: no\n"
            "load_best_model_at_end: no\n"
        )
        args = parse_recipe(["--config", str(path)])[2]
        assert {args.eval_strategy, args.save_strategy, args.logging_strategy} == {"no"}
        assert args.report_to == [] and not args.load_best_model_at_end
        flags = [
            "--eval_strategy",
            "no",
            "--save_strategy",
            "no",
            "--load_best_model_at_end",
            "no",
            "--report_to",
            "no",
        ]
        args = parse_recipe(["--output_dir", "x", *flags])[2]
        assert args.eval_strategy == args.save_strategy == "no" and args.report_to == []


def test_processor_is_used_where_there_is_no_accelerator(arguments):
    assert arguments().use_cpu is not torch.accelerator.is_available()


def test_one_word_of_classes_is_refused():
    with pytest.raises(RecipeError, match=r"at least two classes, got .*--class_words bad ok good"):
        DataArguments(dataset="reviews.csv", class_words=["[bad, ok, good]"]).complete("reviews")
