import json
import math
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import TrainingArguments

from hf_fusion import FusionSentimentPipeline, FusionTrainer, FusionTrainingArguments
from hf_fusion.architectures.outputs import compute_outputs
from hf_fusion.architectures.reviews import encode_reviews
from hf_fusion.models.modeling_losses import corn_loss
from hf_fusion.training.checkpoints import STAGING, newest_sound_checkpoint
from hf_fusion.training.non_finite import NonFiniteLossError
from hf_fusion.training.sampler import LengthBucketSampler

COMPONENTS = ("fine_loss", "coarse_loss", "intensity_loss", "fine_weight", "coarse_weight", "intensity_weight")


@pytest.fixture
def reviews(corpus):
    """Short ones, of several lengths."""
    return [text[: 40 + 5 * i] for i, text in enumerate(corpus[:16])]


@pytest.fixture
def dataset(reviews, processor):
    rows = [
        {"text": text, "labels": i % 5, "coarse_labels": i % 3, "intensity_labels": (i % 5) / 4}
        for i, text in enumerate(reviews)
    ]
    return encode_reviews(Dataset.from_list(rows), processor)


@pytest.fixture
def make_trainer(make_model, processor, dataset, tmp_path):
    def make(model=None, train_dataset=dataset, name="run", **fields):
        options = {"num_train_epochs": 1, "per_device_train_batch_size": 4, "logging_steps": 1, "report_to": "none",
                   "disable_tqdm": True, "use_cpu": True, "save_strategy": "no", "eval_strategy": "no",
                   "load_best_model_at_end": False, "lr_scheduler_type": "constant"}  # fmt: skip
        args = FusionTrainingArguments(output_dir=str(tmp_path / name), **{**options, **fields})
        model = model or make_model(classifier_dropout=0.0)
        for config in model.config.encoder_configs.values():
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        model.apply(lambda m: setattr(m, "p", 0.0) if isinstance(m, torch.nn.Dropout) else None)
        return FusionTrainer(model, args, train_dataset=train_dataset, eval_dataset=dataset, processing_class=processor)

    return make


def training_logs(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_tokenized_rows(dataset, processor, reviews):
    assert set(dataset.column_names) == {
        *processor.model_input_names, "length", "text_truncated", "labels", "coarse_labels", "intensity_labels",
    }  # fmt: skip
    row = dataset[3]
    assert row["length"] == max(len(row["input_ids"]), len(row["input_ids_b"]))
    assert row["span_ids_b"] == processor(reviews[3])["span_ids_b"]


def test_logs_components_that_add_up(make_trainer):
    trainer = make_trainer(learning_rate=0.0, loss_weighting_learning_rate=0.0)
    trainer.train()
    for entry in training_logs(trainer):
        weighted = sum(entry[f"{task}_loss"] * entry[f"{task}_weight"] for task in ("fine", "coarse", "intensity"))
        assert entry["loss"] == pytest.approx(weighted, rel=1e-4)  # the uncertainties are 0: no other term
        assert 0 < entry["gate_mean"] < 1 and entry["gate_spread"] > 0


def test_gate_logs_are_those_of_the_real_spans(make_trainer, make_model, processor, dataset):
    trainer = make_trainer(learning_rate=0.0, per_device_train_batch_size=16)
    trainer.train()
    values = []
    for row in dataset.select_columns(processor.model_input_names):
        outputs = trainer.model.eval()(**processor.pad([row], return_tensors="pt"), output_fusion=True)
        values.append(outputs.gate[0][outputs.span_mask[0]].flatten())
    values = torch.cat(values)
    (entry,) = training_logs(trainer)
    assert entry["gate_mean"] == pytest.approx(values.mean().item(), abs=1e-4)
    assert entry["gate_spread"] == pytest.approx(values.std(unbiased=False).item(), abs=1e-4)


@pytest.mark.parametrize("weighting", ["uncertainty", "dwa"])
def test_accumulation_changes_neither_loss_nor_logs(make_trainer, make_model, weighting):
    logs = []
    for batch_size, steps in ((8, 1), (4, 2), (2, 4)):
        model = make_model(loss_weighting=weighting)
        trainer = make_trainer(model, per_device_train_batch_size=batch_size, gradient_accumulation_steps=steps,
                               bucket_by_length=False, train_sampling_strategy="sequential")  # fmt: skip
        trainer.train()
        logs.append(training_logs(trainer))
    for one, other in ((logs[0], logs[1]), (logs[0], logs[2])):
        for a, b in zip(one, other, strict=True):
            for name in ("loss", "grad_norm", *COMPONENTS):
                assert a[name] == pytest.approx(b[name], rel=1e-3), name


def test_components_are_means_over_labels_not_over_batches(make_trainer, dataset, processor, reviews):
    rows = dataset.to_list()
    for i, row in enumerate(rows):
        if i not in (0, 5, 6, 7):  # 1 label in the first batch of 4, 3 in the second, none after
            row["labels"] = None
    trainer = make_trainer(train_dataset=Dataset.from_list(rows), learning_rate=0.0, logging_steps=4,
                           bucket_by_length=False, train_sampling_strategy="sequential")  # fmt: skip
    trainer.train()
    losses = []
    for i in (0, 5, 6, 7):
        batch = processor([reviews[i]], return_tensors="pt")
        losses.append(trainer.model.eval()(**batch, labels=torch.tensor([rows[i]["labels"]])).fine_loss.item())
    (entry,) = training_logs(trainer)
    assert entry["fine_loss"] == pytest.approx(sum(losses) / 4, rel=1e-4)


def test_learns(make_trainer):
    trainer = make_trainer(num_train_epochs=25, learning_rate=5e-3, per_device_train_batch_size=16)
    trainer.train()
    assert trainer.evaluate()["eval_fine_accuracy"] > 0.9


def test_evaluates_with_some_labels_missing(make_trainer, dataset):
    trainer = make_trainer()
    only = dataset.remove_columns(["labels", "coarse_labels"])
    trainer = FusionTrainer(trainer.model, trainer.args, eval_dataset=only, processing_class=trainer.processing_class)
    metrics = trainer.evaluate()
    assert {"eval_loss", "eval_intensity_mae"} <= set(metrics) and "eval_fine_accuracy" not in metrics


@pytest.mark.parametrize("kind", [lambda rows: rows, Dataset.to_list, Dataset.to_iterable_dataset])
def test_each_set_is_evaluated_by_its_own_labels(make_trainer, dataset, kind):
    trainer = make_trainer()
    fine, scores = (kind(dataset.select_columns([name for name in dataset.column_names if name in kept]))
                    for kept in ({"input_ids", "input_ids_b", "attention_mask", "attention_mask_b", "span_ids",
                                  "span_ids_b", label} for label in ("labels", "intensity_labels")))  # fmt: skip
    bare = kind(dataset.remove_columns(["labels", "coarse_labels", "intensity_labels"]))
    trainer.eval_dataset = {"fine": fine, "scores": scores, "whole": dataset}
    found = trainer.evaluate()
    assert {"eval_fine_loss", "eval_scores_loss", "eval_whole_loss"} <= set(found)
    names = ("fine_accuracy", "coarse_accuracy", "intensity_mae")
    shown = {part: [name for name in names if f"eval_{part}_{name}" in found] for part in ("fine", "scores", "whole")}
    assert shown == {"fine": ["fine_accuracy"], "scores": ["intensity_mae"], "whole": list(names)}
    assert "test_intensity_mae" in trainer.predict(scores).metrics
    assert trainer.predict(bare).label_ids is None
    assert trainer.label_names == ["labels", "coarse_labels", "intensity_labels"]


def test_a_batch_that_lacks_a_label_of_its_set_stops(make_trainer, dataset):
    rows = [{**row} for row in dataset]
    for row in rows[:8]:
        del row["coarse_labels"]
    with pytest.raises(ValueError, match=r"no `coarse_labels`.*None"):
        make_trainer(per_device_eval_batch_size=4).evaluate(rows)


class OwnLoss(FusionTrainer):
    """The usual answer to rare classes."""

    weights = (4.0, 1.0, 1.0, 1.0, 0.5)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.CrossEntropyLoss(weight=torch.tensor(self.weights))(outputs.get("logits"), labels)
        return (loss, outputs) if return_outputs else loss


def test_a_subclass_computes_its_own_loss(make_trainer, dataset):
    plain = make_trainer(per_device_train_batch_size=16, learning_rate=0.0)
    trainer = OwnLoss(plain.model, plain.args, train_dataset=dataset, eval_dataset=dataset,
                      processing_class=plain.processing_class)  # fmt: skip
    trainer.train()
    (entry,) = training_logs(trainer)
    logits = torch.tensor(trainer.predict(dataset).predictions[0])
    weights = torch.tensor(OwnLoss.weights)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(dataset["labels"]), weights)
    assert entry["loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert {"eval_loss", "eval_fine_accuracy"} <= set(trainer.evaluate())


def test_a_subclass_adds_to_the_loss(make_trainer, dataset):
    class Added(FusionTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            loss = loss + 10 * outputs["intensity"].mean()
            return (loss, outputs) if return_outputs else loss

    plain = make_trainer(per_device_train_batch_size=16, learning_rate=0.0, loss_weighting_learning_rate=0.0)
    trainer = Added(plain.model, plain.args, train_dataset=dataset, eval_dataset=dataset,
                    processing_class=plain.processing_class)  # fmt: skip
    trainer.train()
    (entry,) = training_logs(trainer)
    with torch.no_grad():
        rows = trainer.data_collator([dataset[i] for i in range(len(dataset))])
        outputs = trainer.model(**trainer._prepare_inputs(rows))
    assert entry["loss"] == pytest.approx((outputs.loss + 10 * outputs.intensity.mean()).item(), rel=1e-4)
    assert entry["fine_loss"] == pytest.approx(outputs.fine_loss.item(), rel=1e-4)


def test_partners_are_arguments_of_forward_too(make_clip_trainer):
    class Own(FusionTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            self.names = set(inputs)
            outputs = model(**inputs)
            loss = ((outputs.logits.squeeze(-1) - inputs["labels"]) ** 2).mean()
            return (loss, outputs) if return_outputs else loss

    plain = make_clip_trainer(contrastive_partners="encoded", num_train_epochs=1)
    trainer = Own(plain.model, plain.args, train_dataset=plain.train_dataset, processing_class=plain.processing_class)
    trainer.train()
    assert "partner_mask" in trainer.names and "_row" not in trainer.names


@pytest.mark.parametrize("setting", ["balanced", [3.0, 1.0, 0.0, 1.0, 2.0]])
def test_class_weights_act_on_the_fine_loss_alone(make_trainer, dataset, setting, caplog):
    sizes = {"learning_rate": 0.0, "per_device_train_batch_size": 5, "bucket_by_length": False, "logging_steps": 4}
    trainer = make_trainer(class_weights=setting, **sizes)
    trainer.train()
    (entry,) = training_logs(trainer)
    unweighted = make_trainer(name="plain", **sizes)
    unweighted.train()
    (plain,) = training_logs(unweighted)
    labels = torch.tensor(dataset["labels"])
    weights = len(labels) / (5 * labels.bincount()) if setting == "balanced" else torch.tensor(setting)
    logits = torch.tensor(trainer.predict(dataset).predictions[0])
    expected = torch.nn.functional.cross_entropy(logits, labels, weights.float())
    assert entry["fine_loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert entry["coarse_loss"] == pytest.approx(plain["coarse_loss"], rel=1e-4)
    assert entry["fine_loss"] != pytest.approx(plain["fine_loss"], rel=1e-3)
    assert "Weights of the classes in the loss: very negative" in caplog.text
    assert "class_weights" not in trainer.model.state_dict()


def test_coarse_class_weights_act_on_the_coarse_loss_alone(make_trainer, dataset, caplog):
    sizes = {"learning_rate": 0.0, "per_device_train_batch_size": 5, "bucket_by_length": False, "logging_steps": 4}
    trainer = make_trainer(coarse_class_weights="2 0.5 1", **sizes)
    trainer.train()
    (entry,) = training_logs(trainer)
    fine, coarse = (torch.tensor(part) for part in trainer.predict(dataset).predictions[:2])
    expected = torch.nn.functional.cross_entropy(
        coarse, torch.tensor(dataset["coarse_labels"]), torch.tensor([2.0, 0.5, 1.0])
    )
    assert entry["coarse_loss"] == pytest.approx(expected.item(), rel=1e-4)
    expected = torch.nn.functional.cross_entropy(fine, torch.tensor(dataset["labels"]))
    assert entry["fine_loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert "Weights of the coarse classes in the loss: negative 2, neutral 0.5, positive 1." in caplog.text


@pytest.mark.parametrize("weights", [None, [2.0, 1.0, 0.5, 1.0, 3.0]])
def test_the_loss_of_corn_is_logged_as_a_mean_over_its_answers(make_trainer, make_model, dataset, weights):
    """Batches have as many labels, but not as many answers."""
    fields = {"learning_rate": 0.0, "per_device_train_batch_size": 5, "bucket_by_length": False, "logging_steps": 4}
    trainer = make_trainer(make_model(fine_loss="corn", classifier_dropout=0.0), class_weights=weights, **fields)
    trainer.train()
    (entry,) = training_logs(trainer)
    logits, labels = torch.tensor(trainer.predict(dataset).predictions[0]), torch.tensor(dataset["labels"])
    expected, _ = corn_loss(logits, labels, None if weights is None else torch.tensor(weights))
    assert entry["fine_loss"] == pytest.approx(expected.item(), rel=1e-4)


class TestLossOfTheLabels:
    """`compute_loss_func` of `Trainer` stands in place of the model's loss of the fine labels."""

    @staticmethod
    def squared_error(outputs, labels, num_items_in_batch=None):
        expected = outputs["logits"].softmax(-1) @ torch.arange(5.0)
        return outputs["loss"] + ((expected - labels) ** 2).mean()

    def trainer(self, plain, loss=squared_error, **fields):
        data = {"train_dataset": plain.train_dataset, "eval_dataset": plain.eval_dataset}
        return FusionTrainer(
            plain.model, plain.args, **data, processing_class=plain.processing_class, compute_loss_func=loss, **fields
        )

    def test_counts_with_the_other_tasks(self, make_trainer, dataset):
        rates = {"learning_rate": 0.0, "loss_weighting_learning_rate": 0.0}
        trainer = self.trainer(make_trainer(per_device_train_batch_size=16, **rates))
        trainer.train()
        (entry,) = training_logs(trainer)
        assert {"coarse_loss", "intensity_loss"} <= set(entry) and "fine_loss" not in entry
        rows = trainer.data_collator([dataset[i] for i in range(len(dataset))])
        labels = rows.pop("labels")
        with torch.no_grad():
            expected = self.squared_error(trainer.model(**trainer._prepare_inputs(rows)), labels)
        assert entry["loss"] == pytest.approx(expected.item(), rel=1e-4)
        metrics = trainer.evaluate()
        assert metrics["eval_loss"] == pytest.approx(expected.item(), rel=1e-4) and "eval_fine_accuracy" in metrics

    @pytest.mark.parametrize("cross_fusion", ["gate", "a"])
    def test_leaves_the_labels_to_a_subclass(self, make_trainer, make_model, dataset, cross_fusion):
        class Own(FusionTrainer):
            seen = []

            def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
                loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
                self.seen += inputs["labels"].tolist()
                return (loss, outputs) if return_outputs else loss

        plain = make_trainer(make_model(cross_fusion=cross_fusion), num_train_epochs=1)
        trainer = Own(plain.model, plain.args, train_dataset=dataset, eval_dataset=dataset,
                      processing_class=plain.processing_class, compute_loss_func=self.squared_error)  # fmt: skip
        trainer.train()
        trainer.evaluate()
        assert sorted(trainer.seen) == sorted(2 * list(dataset["labels"]))

    def test_learns_from_the_labels_alone(self, make_trainer, dataset):
        rows = dataset.remove_columns(["coarse_labels", "intensity_labels"])
        plain = make_trainer(train_dataset=rows, num_train_epochs=3, learning_rate=3e-3)
        plain.eval_dataset = rows

        def loss(outputs, labels, num_items_in_batch=None):
            return torch.nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch

        trainer = self.trainer(plain, loss)
        before = trainer.evaluate()["eval_fine_accuracy"]
        trainer.train()
        assert trainer.evaluate()["eval_fine_accuracy"] > before

    def test_is_checked(self, make_trainer):
        trainer = self.trainer(make_trainer(), lambda outputs, labels, **_: outputs["loss"] * float("nan"))
        with pytest.raises(NonFiniteLossError, match="a loss that was added to them"):
            trainer.train()

    def test_leaves_class_weights_without_effect(self, make_trainer):
        with pytest.raises(ValueError, match="`class_weights` has no effect with `compute_loss_func`"):
            self.trainer(make_trainer(class_weights="balanced"))


def test_gathers_no_large_outputs_in_evaluation(make_trainer, dataset):
    predictions = make_trainer().predict(dataset).predictions
    assert [p.shape for p in predictions] == [(16, 5), (16, 3), (16,)]


class TestCheckpoints:
    FIELDS = {"num_train_epochs": 3, "save_strategy": "epoch", "eval_strategy": "epoch", "save_total_limit": 2,
              "load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}  # fmt: skip

    def names(self, trainer):
        return sorted(path.name for path in Path(trainer.args.output_dir).iterdir() if "checkpoint" in path.name)

    @pytest.mark.parametrize("spelling", ["{}", "./run", "run//it/"])
    def test_the_best_one_is_known_by_its_name_and_kept(self, make_trainer, tmp_path, monkeypatch, spelling):
        monkeypatch.chdir(tmp_path)
        trainer = make_trainer(**self.FIELDS, learning_rate=1.0)  # the first epoch is the best
        trainer.args.output_dir = spelling.format(trainer.args.output_dir)
        trainer.train()
        losses = [log["eval_loss"] for log in trainer.state.log_history if "eval_loss" in log]
        best = trainer.state.max_steps // 3 * (1 + losses.index(min(losses)))
        folder = Path(trainer.args.output_dir)
        assert Path(trainer.state.best_model_checkpoint) == folder / f"checkpoint-{best}"
        kept = {best, trainer.state.max_steps, 2 * trainer.state.max_steps // 3}
        assert self.names(trainer) == sorted(f"checkpoint-{step}" for step in kept)
        for name in self.names(trainer):
            state = json.loads((folder / name / "trainer_state.json").read_text())
            assert Path(state["best_model_checkpoint"]).parent == folder
        assert not (folder / STAGING).exists()

    @pytest.mark.parametrize(("metric", "best_of"), [("intensity_mae", min), ("eval_intensity_corr", max)])
    def test_the_best_one_is_that_of_the_metric(self, make_trainer, metric, best_of):
        trainer = make_trainer(**{**self.FIELDS, "metric_for_best_model": metric}, learning_rate=0.1)
        trainer.train()
        name = f"eval_{metric.removeprefix('eval_')}"
        values = {log["step"]: log[name] for log in trainer.state.log_history if name in log}
        assert len(set(values.values())) == 3
        best = best_of(values, key=values.get)
        assert Path(trainer.state.best_model_checkpoint).name == f"checkpoint-{best}"
        assert trainer.evaluate()[name] == pytest.approx(values[best], abs=1e-5), "is restored"

    @pytest.mark.parametrize("step", ["_save", "_save_optimizer_and_scheduler", "_save_rng_state"])
    def test_one_that_fails_is_not_there(self, make_trainer, monkeypatch, step):
        trainer = make_trainer(**self.FIELDS)
        original, calls = getattr(trainer, step), []

        def save(*args, **kwargs):
            calls.append(step)
            if len(calls) == 2:
                raise OSError(28, "no space left on device")
            return original(*args, **kwargs)

        monkeypatch.setattr(trainer, step, save)
        with pytest.raises(OSError, match="no space left"):
            trainer.train()
        assert self.names(trainer) == [f"checkpoint-{trainer.state.max_steps // 3}"], "the one before is untouched"
        newest, skipped = newest_sound_checkpoint(trainer.args.output_dir)
        assert newest.name == self.names(trainer)[0] and not skipped
        monkeypatch.setattr(trainer, step, original)
        trainer.train(resume_from_checkpoint=str(newest))
        assert f"checkpoint-{trainer.state.max_steps}" in self.names(trainer)
        assert not (Path(trainer.args.output_dir) / STAGING).exists()


def test_early_stopping(make_trainer):
    trainer = make_trainer(
        num_train_epochs=9,
        learning_rate=0.0,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="fine_accuracy",
        early_stopping_patience=2,
    )
    trainer.train()
    assert trainer.state.epoch == 3


def test_early_stopping_watches_an_error(make_trainer, monkeypatch):
    errors = iter([3.0, 2.0, 1.0, 1.5, 0.5])
    fields = {**TestCheckpoints.FIELDS, "num_train_epochs": 5, "metric_for_best_model": "intensity_mae"}
    trainer = make_trainer(**fields, early_stopping_patience=1)
    monkeypatch.setattr(trainer, "compute_metrics", lambda prediction: {"intensity_mae": next(errors)})
    trainer.train()
    assert trainer.state.epoch == 4 and trainer.state.best_metric == 1.0


def test_lengths_in_another_column(make_trainer, dataset):
    rows = dataset.rename_column("length", "tokens")
    sampler = make_trainer(train_dataset=rows, length_column_name="tokens")._get_train_sampler()
    assert isinstance(sampler, LengthBucketSampler) and sampler.lengths == list(dataset["length"])
    with pytest.raises(ValueError, match=r"'tokens' is not a column of the training data .*length"):
        make_trainer(length_column_name="tokens")._get_train_sampler()


class TestResume:
    @pytest.mark.parametrize("weighting", ["uncertainty", "dwa"])
    @pytest.mark.parametrize("checkpoint", [3, 4, 8])
    def test_is_exact(self, make_trainer, make_model, weighting, checkpoint):
        """12 steps in 3 epochs, with checkpoints inside and at the end of an epoch."""
        fields = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": checkpoint, "save_total_limit": None,
                  "learning_rate": 1e-3, "logging_steps": 2}  # fmt: skip
        whole = make_trainer(make_model(loss_weighting=weighting), name="whole", **fields)
        whole.train()
        resumed = make_trainer(make_model(loss_weighting=weighting), name="resumed", **fields)
        resumed.train(resume_from_checkpoint=str(whole.args.output_dir) + f"/checkpoint-{checkpoint}")
        ours, theirs = whole.model.state_dict(), resumed.model.state_dict()
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
        if weighting == "dwa":
            assert (ours["loss_weighting.loss_history"] > 0).all()
        for a, b in zip(training_logs(whole), training_logs(resumed), strict=True):
            assert all(math.isclose(a[name], b[name], rel_tol=1e-6) for name in COMPONENTS)

    def test_dwa_history_is_the_mean_over_the_epoch(self, make_trainer, make_model):
        trainer = make_trainer(make_model(loss_weighting="dwa"), num_train_epochs=1, learning_rate=0.0, logging_steps=3)
        trainer.train()
        before, last = trainer.model.loss_weighting.loss_history
        assert before.tolist() == [0, 0, 0]
        assert last.tolist() == pytest.approx(self._means(trainer), rel=1e-4)

    @staticmethod
    def _means(trainer):
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(16)])
        outputs = trainer.model.eval()(**batch)
        return [outputs[f"{task}_loss"].item() for task in ("fine", "coarse", "intensity")]


def test_checkpoints_hold_the_code_and_the_processor(make_trainer):
    trainer = make_trainer(save_strategy="epoch")
    trainer.train()
    folder = trainer.args.output_dir + "/checkpoint-4"
    from pathlib import Path

    names = {path.name for path in Path(folder).iterdir()}
    assert {"modeling_dyfulm.py", "processing_dyfulm.py", "pipeline_fusion_sentiment.py", "model.safetensors",
            "tokenizer.json", "tokenizer_b", "processor_config.json"} <= names  # fmt: skip
    assert "auto_map" in json.loads((Path(folder) / "config.json").read_text())


class TestWhatItTakes:
    @pytest.mark.parametrize("kind", ["list", "torch", "dict"])
    def test_other_data_sets(self, make_trainer, dataset, kind):
        class Rows(torch.utils.data.Dataset):
            __len__, __getitem__ = lambda self: len(dataset), lambda self, i: dataset[i]

        given = {"list": list(dataset), "torch": Rows(), "dict": {"first": dataset, "second": list(dataset)}}[kind]
        trainer = make_trainer(train_dataset=list(dataset) if kind == "dict" else given)
        trainer = FusionTrainer(
            trainer.model, trainer.args, train_dataset=trainer.train_dataset, eval_dataset=given,
            processing_class=trainer.processing_class,
        )  # fmt: skip
        trainer.train()
        metrics = trainer.evaluate()
        assert ("eval_second_fine_accuracy" if kind == "dict" else "eval_fine_accuracy") in metrics

    def test_plain_arguments(self, make_model, processor, tmp_path):
        args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
        with pytest.raises(TypeError, match="must be FusionTrainingArguments, got TrainingArguments"):
            FusionTrainer(make_model(), args, processing_class=processor)

    def test_no_processor(self, make_model, tmp_path):
        args = FusionTrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
        with pytest.raises(ValueError, match="Pass the processor of the model"):
            FusionTrainer(make_model(), args)


@pytest.mark.parametrize("partners", ["batch", "mined", "encoded"])
def test_logs_the_loss_of_the_second_pass(make_clip_trainer, clip_model, partners):
    trainer = make_clip_trainer(
        partners, model=clip_model(modality_distillation=0.6), contrastive_partners=partners, log_gradients_every=1
    )
    trainer.train()
    for log in training_logs(trainer):
        parts = log["prediction_loss"] + trainer.model.config.contrastive_weight * log["contrastive_loss"]
        assert log["loss"] == pytest.approx(parts + log["distillation_loss"], rel=1e-3) and log["distillation_loss"] > 0
        assert log["gradient_norm_distillation"] > 0


class TestWindows:
    """Training on whole long texts."""

    @pytest.fixture
    def long(self, corpus, processor):
        processor.max_length = 16
        rows = [
            {"text": f"{text} {text}" if i % 3 else "good", "stars": 1 + i % 5} for i, text in enumerate(corpus[:12])
        ]
        return Dataset.from_list(rows)

    def test_batches_are_texts_with_all_their_windows(self, make_trainer, long):
        trainer = make_trainer(train_dataset=long, long_texts="window", learning_rate=1e-3)
        batch = next(iter(trainer.get_train_dataloader()))
        assert batch["labels"].shape == (4,) and batch["window_texts"].max() == 3
        assert len(batch["window_texts"]) == len(batch["input_ids"]) > 8
        before = trainer.evaluate(trainer.train_dataset)
        trainer.train()
        assert all(math.isfinite(entry["loss"]) for entry in training_logs(trainer))
        assert trainer.evaluate(trainer.train_dataset)["eval_loss"] < before["eval_loss"]

    def test_metrics_are_those_of_the_pipeline(self, make_trainer, long, processor):
        trainer = make_trainer(train_dataset=long, long_texts="window")
        logits = trainer.predict(trainer.train_dataset).predictions[0]
        classify = FusionSentimentPipeline(trainer.model, processor=processor, device="cpu")
        scores = torch.tensor(logits).softmax(-1).max(-1).values.tolist()
        assert [answer["score"] for answer in classify(long["text"][:])] == pytest.approx(scores, abs=1e-5)
        outputs = compute_outputs(trainer.model, processor, trainer.train_dataset, batch_size=3)
        assert outputs["logits"] == pytest.approx(logits, abs=1e-5)

    def test_cut_is_the_default(self, make_trainer, long):
        batch = next(iter(make_trainer(train_dataset=long).get_train_dataloader()))
        assert "window_texts" not in batch and len(batch["input_ids"]) == 4
