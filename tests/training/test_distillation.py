"""A teacher, its answers, and students that learn from them."""

import json
import shutil

import pytest
import torch
import yaml
from datasets import Dataset, concatenate_datasets
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from hf_fusion import DyFuLMForSequenceClassification, DyFuLMProcessor, FusionSentimentPipeline, FusionTrainingArguments
from hf_fusion.architectures.reviews import encode_reviews
from hf_fusion.data.labels import LabelRules
from hf_fusion.data.synthetic_reviews import synthetic_reviews
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.studies.costs import compare_checkpoints
from hf_fusion.training.distillation import (
    ANSWERS,
    DISTILLATION_LOSSES,
    DistillationTrainer,
    add_answers,
    distillation_losses,
    load_teacher,
)
from hf_fusion.training.recipe import parse_recipe
from hf_fusion.training.run import run_training
from hf_fusion.training.trainer import FusionTrainer
from hf_fusion.utils.errors import RecipeError

RULES = LabelRules()
POOLED_TOO = {"weights": (1.0, 1.0, 1.0, 1.0)}


@pytest.fixture
def teacher(make_model, processor):
    return FusionSentimentPipeline(make_model(), processor=processor, device="cpu")


@pytest.fixture
def student_processor(wordpiece):
    return DyFuLMProcessor(wordpiece)


@pytest.fixture
def rows(corpus, student_processor, teacher, tmp_path):
    """Encoded for the student, with labels and the teacher's answers."""
    texts = Dataset.from_list(
        [
            {"text": text, "labels": i % 5, "coarse_labels": i % 3, "intensity_labels": (i % 5) / 4}
            for i, text in enumerate(corpus[:16])
        ]
    )
    return add_answers(encode_reviews(texts, student_processor), texts, teacher, tmp_path, 4, "cpu")


@pytest.fixture
def make_student(make_model):
    def make(**fields):
        student = make_model(cross_fusion="a", a="bert", **fields)
        student.apply(lambda module: setattr(module, "p", 0.0) if isinstance(module, torch.nn.Dropout) else None)
        return student

    return make


@pytest.fixture
def make_trainer(make_student, rows, student_processor, tmp_path):
    def make(model=None, train_dataset=rows, name="run", trainer=DistillationTrainer, distillation=(), **fields):
        options = {"num_train_epochs": 1, "per_device_train_batch_size": 4, "logging_steps": 1, "report_to": "none",
                   "disable_tqdm": True, "use_cpu": True, "save_strategy": "no", "eval_strategy": "no",
                   "load_best_model_at_end": False, "lr_scheduler_type": "constant"}  # fmt: skip
        args = FusionTrainingArguments(str(tmp_path / name), **{**options, **fields})
        model = model or make_student()
        return trainer(
            model, args, train_dataset=train_dataset, processing_class=student_processor, **dict(distillation)
        )

    return make


def training_logs(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


class TestAnswers:
    def test_are_those_of_each_text_alone(self, rows, teacher, corpus):
        teacher.model.eval()
        for row, text in zip(rows, corpus[:16], strict=True):
            with torch.no_grad():
                alone = teacher.model(**teacher.processor([text], return_tensors="pt"), output_fusion=True)
            for name, field in ANSWERS.items():
                torch.testing.assert_close(torch.tensor(row[name]), alone[field][0], atol=1e-5, rtol=1e-5)

    def test_are_computed_once_without_dropout_and_leave_the_teacher_as_it_was(self, make_model, processor, tmp_path):
        teacher = FusionSentimentPipeline(make_model(classifier_dropout=0.5), processor=processor, device="cpu")
        before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
        teacher.model.train()
        texts = Dataset.from_dict({"text": ["good", "The bar was not bad.", "good"]})
        first = add_answers(texts, texts, teacher, tmp_path, 2, "cpu")
        assert first["teacher_logits"][0] == pytest.approx(first["teacher_logits"][2], abs=1e-6), "no dropout"
        assert not teacher.model.training and all(p.grad is None for p in teacher.model.parameters())
        assert all(torch.equal(value, before[name]) for name, value in teacher.model.state_dict().items())

        calls = []
        teacher.model.register_forward_hook(lambda *_: calls.append(1))
        assert add_answers(texts, texts, teacher, tmp_path, 2, "cpu").to_dict() == first.to_dict() and not calls
        add_answers(texts.select([0, 1]), texts.select([0, 1]), teacher, tmp_path, 2, "cpu")
        assert len(calls) == 1, "other texts are asked anew"
        with torch.no_grad():
            teacher.model.classifier.bias += 1
        changed = add_answers(texts, texts, teacher, tmp_path, 2, "cpu")
        assert len(calls) == 3 and changed["teacher_logits"][0] != first["teacher_logits"][0], "and of another teacher"
        teacher.processor.max_length = 8
        add_answers(texts, texts, teacher, tmp_path, 2, "cpu")
        assert len(calls) == 5, "also of one that reads less"
        half = add_answers(texts, texts, teacher, tmp_path, 2, "cpu", torch.bfloat16)
        assert len(calls) == 7, "and in another precision"
        assert 0 < abs(half["teacher_logits"][0][0] - changed["teacher_logits"][0][0]) < 0.1


def random_batch(width=3):
    shapes = {"logits": (4, 5), "coarse_logits": (4, 3), "intensity": (4,), "pooler_output": (4, width)}
    outputs = {field: torch.randn(shape, requires_grad=True) for field, shape in shapes.items()}
    return outputs, {name: torch.randn(shapes[field]) for name, field in ANSWERS.items()}


class TestLosses:
    @pytest.mark.parametrize("temperature", [1.0, 3.0])
    def test_naive_reference(self, temperature):
        outputs, targets = random_batch()
        found = distillation_losses(outputs, targets, temperature)
        expected = []
        for field in ("logits", "coarse_logits"):
            total = 0.0
            for ours, theirs in zip(outputs[field].tolist(), targets[f"teacher_{field}"].tolist(), strict=True):
                p, q = (torch.tensor(x, dtype=torch.float64).div(temperature).exp() for x in (theirs, ours))
                p, q = p / p.sum(), q / q.sum()
                total += sum(a * (a / b).log() for a, b in zip(p, q, strict=True)).item()
            expected.append(temperature**2 * total / 4)
        for name, count in (("teacher_intensity", 4), ("teacher_pooled", 12)):
            pairs = zip(outputs[ANSWERS[name]].flatten().tolist(), targets[name].flatten().tolist(), strict=True)
            expected.append(sum((a - b) ** 2 for a, b in pairs) / count)
        assert [found[name].item() for name in DISTILLATION_LOSSES] == pytest.approx(expected, rel=1e-4)

    def test_each_pulls_at_its_own_output_alone_and_is_0_where_both_agree(self):
        outputs, targets = random_batch()
        for (name, loss), field in zip(distillation_losses(outputs, targets, 2.0).items(), outputs, strict=True):
            gradients = torch.autograd.grad(loss, list(outputs.values()), allow_unused=True)
            assert [gradient is not None for gradient in gradients] == [field == other for other in outputs], name
        same = {name: outputs[field].detach() for name, field in ANSWERS.items()}
        assert sum(distillation_losses(outputs, same, 2.0).values()).item() == pytest.approx(0, abs=1e-6)


class TestTrainer:
    def test_logs_components_that_add_up(self, make_trainer):
        weights = (1.0, 0.5, 10.0, 0.25)
        trainer = make_trainer(
            learning_rate=0.0, loss_weighting_learning_rate=0.0, distillation={"weights": weights, "label_weight": 0.5}
        )
        trainer.train()
        assert len(training_logs(trainer)) == 4
        for entry in training_logs(trainer):
            distilled = sum(w * entry[name] for w, name in zip(weights, DISTILLATION_LOSSES, strict=True))
            labels = sum(entry[f"{task}_loss"] * entry[f"{task}_weight"] for task in ("fine", "coarse", "intensity"))
            assert entry["distillation_loss"] == pytest.approx(distilled, rel=1e-4)
            assert entry["loss"] == pytest.approx(labels + distilled, rel=1e-4) and entry["fine_weight"] == 0.5

    def test_without_weights_it_is_a_plain_training(self, make_trainer, make_student):
        students = [make_student(fusion_hidden_size=32) for _ in range(2)]  # as wide as the teacher: no projection
        make_trainer(students[0], distillation={"weights": (0, 0, 0, 0)}, learning_rate=1e-3).train()
        make_trainer(students[1], trainer=FusionTrainer, learning_rate=1e-3).train()
        first, second = (student.state_dict() for student in students)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_converges_to_the_teacher_without_labels(self, make_trainer, make_student, rows):
        unlabelled = rows.remove_columns(["labels", "coarse_labels", "intensity_labels"])
        student = make_student(fusion_hidden_size=24)
        trainer = make_trainer(
            student, unlabelled, num_train_epochs=40, learning_rate=3e-3, per_device_train_batch_size=16,
            distillation={"weights": (1, 0, 0, 0)}, logging_steps=40, log_gradients_every=40,
        )  # fmt: skip
        trainer.train()
        before, after = (self.agreement(model, trainer, rows) for model in (make_student(), student))
        assert after["agreement"] > 0.9 > 0.6 > before["agreement"]
        assert after["distance"] < before["distance"] / 10
        assert training_logs(trainer)[0]["gradient_norm_distillation"] > 0

    @staticmethod
    def agreement(model, trainer, rows):
        batch = trainer.data_collator(list(rows))
        inputs = {name: value for name, value in batch.items() if name not in ANSWERS}
        with torch.no_grad():
            logits = model.eval()(**inputs).logits
        theirs = batch["teacher_logits"]
        same = (logits.argmax(-1) == theirs.argmax(-1)).float().mean().item()
        distance = torch.nn.functional.kl_div(logits.log_softmax(-1), theirs.softmax(-1), reduction="batchmean")
        return {"agreement": same, "distance": distance.item()}

    def test_projection_learns_and_is_not_saved(self, make_trainer, make_student, tmp_path):
        student = make_student(fusion_hidden_size=20)
        trainer = make_trainer(student, save_strategy="epoch", learning_rate=1e-2, distillation=POOLED_TOO)
        start = trainer.projection.weight.detach().clone()
        assert start.shape == (32, 20)
        trainer.train()
        assert not torch.equal(start, trainer.projection.weight)
        batch = {"input_ids": torch.tensor([[1, 2]]), "attention_mask": torch.ones(1, 2, dtype=torch.long)}
        assert student.eval()(**batch, output_fusion=True).pooler_output.shape == (1, 20), "its own, once it is trained"
        trainer.save_model()
        for folder in (tmp_path / "run", tmp_path / "run" / "checkpoint-4"):
            model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
            assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys")), report
            assert not any("projection." in name and "distillation" in name for name in model.state_dict())

    def test_resumed_is_uninterrupted(self, make_trainer, make_student, tmp_path):
        options = {"num_train_epochs": 2, "save_strategy": "epoch", "save_total_limit": None, "learning_rate": 1e-3}
        options["distillation"] = POOLED_TOO
        students = [make_student(fusion_hidden_size=20) for _ in range(2)]
        whole = make_trainer(students[0], name="whole", **options)
        whole.train()
        resumed = make_trainer(students[1], name="resumed", **options)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
        assert resumed.state.global_step == 8
        first, second = (student.state_dict() for student in students)
        assert "distillation_projection.weight" in first
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_labels_count_where_they_are(self, make_trainer, make_student, rows):
        """Rows without labels add their distillation losses alone."""
        unlabelled = rows.remove_columns(["labels", "coarse_labels", "intensity_labels"])
        mixed = concatenate_datasets([rows.select(range(4)), unlabelled.select(range(4, 16))])
        options = {"per_device_train_batch_size": 16, "learning_rate": 0.0, "loss_weighting_learning_rate": 0.0}
        logs = {}
        for name, data in {"mixed": mixed, "labelled": rows.select(range(4)), "all": rows}.items():
            trainer = make_trainer(make_student(), data, **options)
            trainer.train()
            logs[name] = training_logs(trainer)[0]
        for name in ("fine_loss", "coarse_loss", "intensity_loss"):
            assert logs["mixed"][name] == pytest.approx(logs["labelled"][name], rel=1e-4)
        for name in DISTILLATION_LOSSES:
            assert logs["mixed"][name] == pytest.approx(logs["all"][name], rel=1e-4)
        assert logs["mixed"]["fine_loss"] != pytest.approx(logs["all"]["fine_loss"], rel=1e-3)

    @pytest.mark.parametrize("fine_loss", ["ordinal_log_loss", "corn"])
    def test_students_that_know_the_order(self, make_trainer, make_student, rows, fine_loss):
        """The teacher's classes are learnt as probabilities, whatever the head is."""
        student = make_student(fine_loss=fine_loss)
        weights = {"weights": (1, 0, 0, 0), "label_weight": 0.01}
        trainer = make_trainer(
            student, num_train_epochs=40, learning_rate=3e-3, per_device_train_batch_size=16,
            distillation=weights, logging_steps=40,
        )  # fmt: skip
        trainer.train()
        (entry,) = training_logs(trainer)
        assert entry["fine_loss"] > 0 and entry["fine_distillation_loss"] > 0
        before, after = (self.agreement(model, trainer, rows) for model in (make_student(), student))
        assert after["agreement"] > 0.8 and after["distance"] < before["distance"] / 10

    def test_own_losses_have_no_place(self, make_trainer):
        with pytest.raises(ValueError, match="`compute_loss_func` has no effect on a student"):
            make_trainer(distillation={"compute_loss_func": lambda *_, **__: 0})

    def test_data_without_answers(self, make_trainer, rows):
        with pytest.raises(ValueError, match=r"no teacher_pooled; .* `add_answers`"):
            make_trainer(train_dataset=rows.remove_columns("teacher_pooled"))


ENCODER = {"model_type": "bert", "tokenizer": "wordpiece", "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2,
           "num_attention_heads": 2, "intermediate_size": 32}  # fmt: skip
TINY = {
    "dataset_options": {"num_train": 24, "num_validation": 9, "num_test": 9}, "layer_fusion_hidden_size": 8,
    "max_length": 64, "num_train_epochs": 2, "per_device_train_batch_size": 8, "logging_steps": 3,
    "learning_rate": 0.001, "metric_for_best_model": "fine_accuracy", "disable_tqdm": True, "report_to": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    recipe = {**TINY, "encoder_a": ENCODER, "encoder_b": {**ENCODER, "tokenizer": "bpe", "model_type": "roberta"}}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**recipe, "num_train_epochs": 1, "output_dir": str(folder / "run")}))
    run_training(*parse_recipe(["--config", str(path)]))
    return folder / "run"


@pytest.fixture
def recipe(tmp_path, teacher_folder):
    def write(**changes):
        path = tmp_path / "student.yaml"
        fields = {**TINY, "cross_fusion": "a", "output_dir": str(tmp_path / "run"), "teacher": str(teacher_folder)}
        path.write_text(yaml.safe_dump({**fields, "encoder_a": {**ENCODER, "hidden_size": 12}, **changes}))
        return str(path)

    return write


def run(recipe, *flags):
    return run_training(*parse_recipe(["--config", recipe, *flags]))


class TestRuns:
    def test_a_student_is_an_ordinary_checkpoint(self, recipe, teacher_folder, tmp_path):
        metrics = run(recipe(keep_optimizer=True))
        folder = tmp_path / "run"
        classify = load_pipeline(str(folder), device="cpu")
        assert sum(p.numel() for p in classify.model.parameters()) == metrics["parameters"], "without the projection"
        assert classify("The room was not bad.")["coarse"]["label"] in ("negative", "neutral", "positive")
        assert yaml.safe_load((folder / "config.yaml").read_text())["teacher"] == str(teacher_folder)
        assert "Distilled from `run`" in (folder / "README.md").read_text()

        # interrupted after the first epoch, the answers are read again and the end is the same
        shutil.copytree(folder, tmp_path / "cut")
        shutil.rmtree(tmp_path / "cut" / "checkpoint-6")
        (tmp_path / "cut" / "metrics.json").unlink()
        (answers,) = (tmp_path / "cut").glob("teacher_answers-*.arrow")
        written = answers.stat().st_mtime_ns
        run(recipe(keep_optimizer=True), "--output_dir", str(tmp_path / "cut"), "--resume_from_checkpoint", "last")
        assert answers.stat().st_mtime_ns == written
        first, second = (load_file(path / "checkpoint-6" / "model.safetensors") for path in (folder, tmp_path / "cut"))
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)

        comparisons = compare_checkpoints(teacher_folder, folder, 2, repeats=1)
        assert comparisons[0]["what"] == "parameters" and len(comparisons) == 5
        teacher_parameters = json.loads((teacher_folder / "metrics.json").read_text())["parameters"]
        assert comparisons[0]["ratio"] == pytest.approx(teacher_parameters / metrics["parameters"])
        assert comparisons[1]["candidate"]["median"] == 4 * metrics["parameters"]

    def test_a_transfer_set(self, recipe, tmp_path, corpus, caplog):
        texts = tmp_path / "texts.jsonl"
        texts.write_text("\n".join(json.dumps({"text": text, "stars": "?"}) for text in [*corpus[:20], corpus[0]]))
        flags = ["--transfer_dataset", str(texts), "--max_transfer_samples", "12", "--seed", "3"]
        shared = ["--teacher_answers", str(tmp_path / "answers")]
        path = recipe(num_train_epochs=1, keep_optimizer=True)
        metrics = run(path, *flags, *shared)
        assert metrics["train_samples"] == 24 and metrics["transfer"]["rows"] == 12
        left_out = metrics["transfer"]["left_out"]
        assert left_out["repeated"] == 1 and sum(left_out.values()) == 21 - 12
        assert f"{texts}: 12 texts without labels; left out" in caplog.text
        state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
        assert state["max_steps"] == 5, "24 + 12 rows in batches of 8"
        environment = json.loads((tmp_path / "run" / "environment.json").read_text())
        assert environment["rows"] == {"train": 24, "validation": 9, "test": 9, "transfer": 12}
        answers = sorted((tmp_path / "answers").glob("teacher_answers-*.arrow"))
        written = [file.stat().st_mtime_ns for file in answers]
        assert len(answers) == 2 and not list((tmp_path / "run").glob("teacher_answers-*"))

        # another student of this teacher finds the answers
        run(path, *flags, *shared, "--output_dir", str(tmp_path / "again"), "--learning_rate", "0.01")
        assert [file.stat().st_mtime_ns for file in sorted((tmp_path / "answers").iterdir())] == written

    def test_the_other_rows_of_the_data_are_a_transfer_set(self, recipe, tmp_path):
        flags = ["--transfer_dataset", "dataset", "--max_train_samples", "10"]
        metrics = run(recipe(num_train_epochs=1), *flags)
        left_out = metrics["transfer"]["left_out"]
        assert left_out["with labels in the training"] == 10 and left_out["of its validation or test split"] == 18
        assert metrics["transfer"]["rows"] == 24 - 10 - left_out.get("repeated", 0)

    def test_texts_of_evaluation_are_never_learnt(self, recipe, tmp_path):
        """Nor those that `max_eval_samples` leaves out."""
        corpus = synthetic_reviews(**TINY["dataset_options"])
        held_out = [*corpus["validation"]["text"], *corpus["test"]["text"]]
        path = tmp_path / "texts.jsonl"
        path.write_text("\n".join(json.dumps({"text": text}) for text in ["Something new.", *held_out]))
        metrics = run(recipe(num_train_epochs=1), "--transfer_dataset", str(path), "--max_eval_samples", "3")
        assert metrics["transfer"]["rows"] == 1
        assert metrics["transfer"]["left_out"]["in validation or test"] == len(set(held_out))

    def test_the_first_layers_of_the_teacher(self, recipe, teacher_folder, tmp_path):
        flags = ["--encoder_a", "teacher", "--encoder_layers", "1", "--learning_rate", "0", "--warmup_steps", "0"]
        run(recipe(fusion_learning_rate=0.0), *flags)
        student, teacher = (
            AutoModelForSequenceClassification.from_pretrained(path) for path in (tmp_path / "run", teacher_folder)
        )
        ours, theirs = student.dyfulm.encoder_a.state_dict(), teacher.dyfulm.encoder_a.state_dict()
        assert student.config.encoder_a_config.num_hidden_layers == 1 and len(ours) < len(theirs)
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
        tokenizers = [load_pipeline(str(path)).processor.tokenizer for path in (tmp_path / "run", teacher_folder)]
        assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()

    def test_a_teacher_of_lora(self, recipe, teacher_folder, tmp_path):
        pytest.importorskip("peft")
        lora = ["--cross_fusion", "a", "--lora_encoders", "a", "--merge_lora", "false"]
        path = tmp_path / "lora.yaml"
        path.write_text(yaml.safe_dump({**TINY, "num_train_epochs": 1, "encoder_a": ENCODER}))
        run(str(path), *lora, "--output_dir", str(tmp_path / "lora"))
        assert (tmp_path / "lora" / "adapter_config.json").exists()
        run(recipe(num_train_epochs=1), "--teacher", str(tmp_path / "lora"))
        logs = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
        assert [log["distillation_loss"] for log in logs if log.get("distillation_loss", 0) > 0]

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"cross_fusion": "gate", "encoder_b": ENCODER}, "A student has a single encoder.*'gate'"),
            (
                {"num_labels": 4, "coarse_starts": [0, 1, 3]},
                "`teacher`.*5 fine and 3 coarse classes.*have 4 fine and 3 coarse",
            ),
            ({"teacher": "no/such/folder"}, "`teacher` no/such/folder cannot be loaded"),
            ({"teacher": None, "encoder_a": "teacher"}, "`encoder_a: teacher` takes encoder A of `teacher`, which is"),
            ({"teacher": None, "label_weight": 0.5}, "`label_weight` does nothing without `teacher`"),
            ({"teacher": None, "transfer_dataset": "x.csv"}, "`transfer_dataset` does nothing without `teacher`"),
            ({"transfer_sources": ["x"]}, "`transfer_sources` does nothing without `transfer_dataset`"),
            ({"max_transfer_samples": 5}, "`max_transfer_samples` does nothing without `transfer_dataset`"),
            ({"transfer_dataset": "dataset", "max_transfer_samples": 0}, "must be at least 1, got 0"),
            ({"distillation_weights": [1, 1, 1]}, "four numbers of at least 0"),
            ({"distillation_weights": [0, 0, 0, 0]}, "one of them above it"),
            ({"distillation_temperature": 0}, "must be above 0"),
            ({"lora_encoders": "a"}, "remove it"),
            ({"encoder_a": "teacher", "encoder_layers": 3}, "must be 1 to 2 here, got 3"),
            ({"encoder_layers": 1}, "`encoder_layers` is for pretrained encoders"),
            ({"model_type": "dashfusion", "cross_fusion": None, "encoder_a": None}, "`teacher` belongs to dyfulm"),
            (
                {
                    "model_type": "dashfusion",
                    "cross_fusion": None,
                    "encoder_a": None,
                    "teacher": None,
                    "transfer_dataset": "x.csv",
                },
                "`transfer_dataset` belongs to dyfulm",
            ),
        ],
    )
    def test_recipes_that_cannot_be_run(self, recipe, changes, words):
        with pytest.raises(RecipeError, match=words):
            run(recipe(**changes))


class TestTeacher:
    def test_a_dashfusion_is_none(self, clip_model, clip_processor, tmp_path):
        clip_model().save_pretrained(tmp_path)
        clip_processor.save_pretrained(tmp_path)
        with pytest.raises(RecipeError, match=r"must be a DyFuLM;.* is a dashfusion"):
            load_teacher(str(tmp_path), RULES)

    @pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
    def test_incomplete(self, teacher_folder, tmp_path, name):
        folder = tmp_path / "teacher"
        shutil.copytree(teacher_folder, folder, ignore=shutil.ignore_patterns(name, "checkpoint-*"))
        with pytest.raises(RecipeError, match=r"`teacher` .* cannot be loaded: "):
            load_teacher(str(folder), RULES)

    def test_names_of_classes(self, recipe, teacher_folder, tmp_path):
        folder = tmp_path / "teacher"
        shutil.copytree(teacher_folder, folder, ignore=shutil.ignore_patterns("checkpoint-*"))
        names = {str(i): name for i, name in enumerate("abcde")}
        config = json.loads((folder / "config.json").read_text())
        config |= {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}
        config["class_values"] = [-2, -1, 0, 1, 2]
        (folder / "config.json").write_text(json.dumps(config))
        run(recipe(num_train_epochs=1), "--teacher", str(folder))
        student = DyFuLMForSequenceClassification.from_pretrained(tmp_path / "run")
        assert list(student.config.id2label.values()) == list("abcde"), "a new student has its teacher's"
        assert student.config.class_values == [-2, -1, 0, 1, 2]
        flags = ["--checkpoint", str(tmp_path / "run"), "--output_dir", str(tmp_path / "more")]
        with pytest.raises(RecipeError, match=r"classes are .*, those of the data a, b, c, d, e"):
            run(recipe(encoder_a=None), *flags)
