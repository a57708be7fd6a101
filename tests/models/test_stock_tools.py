"""The tools of other libraries do with our models what they do with those of transformers."""

import copy
import io
import os
import pickle
import stat

import numpy as np
import pytest
import torch
from asserts import assert_close, assert_same_weights
from datasets import Dataset
from tiny_runs import CHILDREN, LONGEST_SECONDS
from transformers import (
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
    default_data_collator,
    pipeline,
)

from hf_fusion import FusionSentimentPipeline
from hf_fusion.data.collator import FusionCollator

ALL_LABELS = ("labels", "coarse_labels", "intensity_labels")


def textbook_metrics(eval_pred):
    predictions, labels = eval_pred
    return {"accuracy": float((np.argmax(predictions, axis=-1) == labels).mean())}


class TestTrainer:
    @pytest.fixture
    def rows(self, processor, texts):
        columns = dict(processor(texts, padding="max_length", max_length=40))
        labels = {"labels": [0, 4, 0, 4], "coarse_labels": [0, 2, 0, 2], "intensity_labels": [0.0, 1.0, 0.0, 1.0]}
        return Dataset.from_dict({**columns, **labels})

    @pytest.fixture
    def make_trainer(self, make_model, tmp_path):
        def make(rows, **fields):
            settings = TrainingArguments(
                str(tmp_path / "run"), report_to="none", use_cpu=True, disable_tqdm=True, eval_strategy="epoch",
                save_strategy="epoch", num_train_epochs=4, metric_for_best_model="accuracy", learning_rate=0.0,
                load_best_model_at_end=True, save_total_limit=1,
            )  # fmt: skip
            return Trainer(args=settings, train_dataset=rows, eval_dataset=rows, compute_metrics=textbook_metrics,
                           **{"model": make_model(), **fields})  # fmt: skip

        return make

    @pytest.mark.parametrize("names", [ALL_LABELS, ("labels",), ("labels", "intensity_labels")])
    def test_evaluates_with_the_labels_that_there_are(self, make_trainer, rows, names):
        rows = rows.remove_columns([name for name in ALL_LABELS if name not in names])
        trainer = make_trainer(rows)
        metrics = trainer.evaluate()
        with torch.no_grad():
            outputs = trainer.model(**{name: torch.tensor(rows[name][:]) for name in rows.column_names})
        assert metrics["eval_loss"] == pytest.approx(outputs.loss.item(), rel=1e-4)  # of all labels that there are
        expected = (outputs.logits.argmax(-1) == torch.tensor(rows["labels"][:])).float().mean().item()
        assert metrics["eval_accuracy"] == expected
        assert trainer.predict(rows).predictions.shape == (4, 5)

    def test_stops_early_and_loads_the_best(self, make_trainer, rows):
        trainer = make_trainer(rows.select_columns([*rows.column_names[:6], "labels"]))
        trainer.add_callback(EarlyStoppingCallback(1))
        trainer.train()
        assert trainer.state.epoch == 2 and trainer.state.best_model_checkpoint.endswith("checkpoint-1")

    def test_searches(self, make_trainer, make_model, rows):
        pytest.importorskip("optuna")
        trainer = make_trainer(rows, model=None, model_init=lambda trial: make_model())
        trainer.args.num_train_epochs = 1
        best = trainer.hyperparameter_search(
            lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-3)},
            n_trials=1, direction="maximize", backend="optuna",
        )  # fmt: skip
        assert 0 <= best.objective <= 1


@pytest.mark.parametrize("keeps", [True, False])
def test_columns_of_clips_that_the_trainer_drops_are_told(clip_model, clip_processor, tmp_path, monkeypatch, keeps):
    text = clip_processor.encode_text(["Good bed.", "Awful!"])
    frames = {"audio": [[[0.5] * 3] * 4, [[1.0] * 3]], "vision": [[[1.0] * 5]] * 2}
    rows = Dataset.from_dict({**text, **frames, "labels": [0.5, -1.0]})
    settings = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no",
                                 remove_unused_columns=not keeps, max_steps=1, learning_rate=0.0)  # fmt: skip
    trainer = Trainer(clip_model(), settings, FusionCollator(clip_processor), train_dataset=rows, eval_dataset=rows)
    lines = []
    monkeypatch.setattr("hf_fusion.models.modeling_dashfusion.logger.warning_once", lines.append)
    for run in (trainer.train, trainer.evaluate):
        lines.clear()
        run()
        found = ["Audio and vision are absent" in line and "`remove_unused_columns=False`" in line for line in lines]
        assert found == [True] * (not keeps)


class TestCollators:
    def rows(self, processor, texts):
        more = {"coarse_labels": 1, "intensity_labels": 0.5, "weight": [1.0, 2.0]}
        return [{**processor(text), "label": i, **more} for i, text in enumerate(texts)]

    def test_padding_keeps_other_columns(self, processor, texts):
        batch = DataCollatorWithPadding(processor)(self.rows(processor, texts))
        assert batch["labels"].tolist() == [0, 1, 2, 3] and batch["labels"].dtype == torch.long
        assert batch["intensity_labels"].dtype == torch.float32 and batch["weight"].shape == (4, 2)
        expected = processor(texts, return_tensors="pt")
        assert all(torch.equal(batch[name], values) for name, values in expected.items())

    def test_rows_of_one_length(self, processor, texts):
        rows = [{**row, **processor(texts[0])} for row in self.rows(processor, texts)]
        batch = default_data_collator(rows)
        assert batch["labels"].tolist() == [0, 1, 2, 3] and batch["coarse_labels"].tolist() == [1] * 4

    @pytest.mark.parametrize("value", ["a text", [1] * 3, None])
    def test_columns_that_are_no_tensors(self, processor, texts, value):
        rows = self.rows(processor, texts)
        rows[1]["weight"] = value
        with pytest.raises(ValueError, match=r"column `weight` .* cannot become a tensor"):
            processor.pad(rows, return_tensors="pt")
        assert processor.pad(rows)["weight"][1] == value

    def test_a_column_that_only_some_rows_have(self, processor, texts):
        rows = self.rows(processor, texts)
        del rows[2]["coarse_labels"]
        with pytest.raises(ValueError, match="Row 2 has no `coarse_labels`"):
            processor.pad(rows, return_tensors="pt")

    def test_clips(self, clip_processor, clips):
        clip_processor.feature_extractor.fit("audio", [np.arange(12.0).reshape(4, 3)])  # frames are normalised once
        whole = clip_processor(**clips, return_tensors="pt")
        rows = []
        for i in range(len(clips["text"])):
            row = clip_processor(**{name: [values[i]] for name, values in clips.items()}, return_tensors="np")
            rows.append({**{name: values[0] for name, values in row.items()}, "labels": i / 2})
        batch = DataCollatorWithPadding(clip_processor)(rows)
        assert batch["labels"].tolist() == [0, 0.5, 1, 1.5, 2]
        assert set(batch) == {*whole, "labels"}
        assert all(torch.equal(batch[name], values) for name, values in whole.items())


@pytest.fixture(params=["dyfulm", "dashfusion", "dashfusion on a dyfulm"])
def classify(request, make_model, clip_model, processor, clip_processor, clip_processor_b):
    if request.param == "dyfulm":
        return FusionSentimentPipeline(make_model(), processor=processor, device="cpu")
    model, reader = (clip_model(), clip_processor) if request.param == "dashfusion" else (
        clip_model("dyfulm"), clip_processor_b
    )  # fmt: skip
    return FusionSentimentPipeline(model, processor=reader, device="cpu")


def _answer_in_another_process(pickled, text, queue):
    try:
        queue.put(pickle.loads(pickled)(text))
    except Exception as error:
        queue.put(repr(error))


class TestPickle:
    TEXT = "Great staff, awful bed."

    def test_what_has_answered(self, classify):
        answer = classify(self.TEXT)
        hooks = [len(module._forward_hooks) for module in classify.model.modules()]
        restored = pickle.loads(pickle.dumps(classify))
        assert_same_weights(restored.model, classify.model)
        assert_close([restored(self.TEXT), classify(self.TEXT)], [answer, answer])
        assert [len(module._forward_hooks) for module in classify.model.modules()] == hooks
        assert copy.deepcopy(classify.model)(**classify.preprocess([{"text": self.TEXT}])).logits.shape[0] == 1

    def test_models_saved_whole(self, make_model, processor, texts):
        model, batch = make_model(), processor(texts, return_tensors="pt")
        model.dyfulm.encoder_b.embeddings.weight_of_a_user = model.dyfulm.pooling.dense.weight  # shared stays shared
        expected = model(**batch).logits
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        torch.testing.assert_close(loaded(**batch).logits, expected)
        assert loaded.dyfulm.encoder_b.embeddings.weight_of_a_user is loaded.dyfulm.pooling.dense.weight

    def test_other_hooks_stay(self, make_model, processor, texts):
        model = make_model()
        model.dyfulm.encoder_a.register_forward_hook(_hook_of_a_user)
        model(**processor(texts, return_tensors="pt"))
        restored = pickle.loads(pickle.dumps(model))
        assert _hook_of_a_user in restored.dyfulm.encoder_a._forward_hooks.values()

    def test_in_a_new_process(self, make_model, processor):
        """Where no model was built before, and transformers knows nothing of what its classes can record."""
        classify = FusionSentimentPipeline(make_model(), processor=processor, device="cpu")
        queue = CHILDREN.Queue()
        args = (pickle.dumps(classify), self.TEXT, queue)
        child = CHILDREN.Process(target=_answer_in_another_process, args=args)
        child.start()
        child.join(LONGEST_SECONDS)
        assert child.exitcode == 0
        answer = queue.get(timeout=LONGEST_SECONDS)
        assert isinstance(answer, dict), answer
        assert answer["score"] == pytest.approx(classify(self.TEXT)["score"], abs=1e-5)


def _hook_of_a_user(module, args, output):
    return None


class TestPipelines:
    @pytest.fixture(params=[("gate", "b"), ("a", None)])
    def folder(self, request, make_model, processor, tmp_path):
        fusion, _ = request.param
        FusionSentimentPipeline(make_model(cross_fusion=fusion), processor=processor, device="cpu").save_pretrained(
            tmp_path
        )
        return tmp_path

    @pytest.mark.parametrize("task", ["text-classification", "sentiment-analysis"])
    def test_tasks_of_transformers(self, folder, task, texts):
        ours = pipeline(model=str(folder), trust_remote_code=True, device="cpu")
        assert ours.task == "fusion-sentiment"
        theirs = pipeline(task, model=str(folder), trust_remote_code=True, device="cpu")
        assert theirs(texts[0]) == [ours(texts[0])] and theirs(texts, truncation=True) == ours(texts)
        assert theirs(texts[0], top_k=2) == ours(texts[0], top_k=2)

    def test_other_tasks_are_not_ours(self, make_config):
        tasks = make_config().custom_pipelines
        assert "zero-shot-classification" not in tasks and list(tasks) == ["fusion-sentiment"]
        with pytest.raises(KeyError):
            tasks["fill-mask"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_weights_have_the_permissions_of_other_files(make_model, clip_model, tmp_path):
    before = os.umask(0o027)
    try:
        for name, model in (("a", make_model()), ("b", clip_model())):
            model.save_pretrained(tmp_path / name, max_shard_size="20KB")
            modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / name).iterdir()}
            assert modes == {0o640}
    finally:
        os.umask(before)


class TestPeft:
    @pytest.mark.parametrize(
        "target", ["all-linear", ["query", "value"], ["query_proj", "value_proj"], r".*encoder_[ab].*(query|value)\w*"]
    )
    def test_usual_targets(self, make_model, processor, texts, labels, target, tmp_path):
        peft = pytest.importorskip("peft")
        model = peft.get_peft_model(make_model(), peft.LoraConfig(task_type="SEQ_CLS", target_modules=target))
        batch = processor(texts, return_tensors="pt")
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
        before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        for _ in range(2):
            model(**batch, **labels).loss.backward()
            optimizer.step()
        changed = {name for name, p in model.named_parameters() if name in before and not torch.equal(p, before[name])}
        for head in ("classifier", "coarse_classifier"):
            assert f"base_model.model.{head}.modules_to_save.default.weight" in changed
        model.eval().save_pretrained(tmp_path)
        expected = model(**batch)
        loaded = peft.PeftModel.from_pretrained(make_model(), tmp_path).eval()
        merged = copy.deepcopy(loaded).merge_and_unload()
        for other in (loaded(**batch), merged(**batch)):
            torch.testing.assert_close(other.logits, expected.logits, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(other.coarse_logits, expected.coarse_logits, atol=1e-4, rtol=1e-4)
