"""Training under a protocol for missing modalities: rows lose parts when they are read."""

import numpy as np
import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import BatchSamplerShard, DataLoaderShard
from transformers import TrainerCallback, TrainerState

from hf_fusion import FusionTrainer, FusionTrainingArguments
from hf_fusion.data.protocols import TrainingMasks
from hf_fusion.training.recipe import parse_recipe, recipe_arguments
from hf_fusion.training.run import run_training
from hf_fusion.training.sampler import SetEpoch
from hf_fusion.utils.errors import RecipeError

NO_SELECTION = {"eval_strategy": "no", "load_best_model_at_end": False}


@pytest.fixture
def make(clip_model, clip_processor, clip_dataset, tmp_path):
    data = clip_dataset.add_column("id", [f"clip {i}" for i in range(len(clip_dataset))])

    def make(train_dataset=data, train_masks="lnln", **fields):
        options = {"per_device_train_batch_size": 4, "use_cpu": True, "report_to": "none", "disable_tqdm": True,
                   "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}  # fmt: skip
        masks = TrainingMasks(train_masks, seed=5) if train_masks else None
        return FusionTrainer(
            clip_model(), FusionTrainingArguments(str(tmp_path), **{**options, **fields}),
            train_dataset=train_dataset, eval_dataset=data, processing_class=clip_processor, train_masks=masks,
        )  # fmt: skip

    return make


def batches(loader, epoch):
    loader.set_epoch(epoch)
    return [dict(batch) for batch in loader]


def rows_of(found, name="audio_features"):
    """Each row of an epoch by its number, without padding."""
    return {
        int(number): values[mask.bool()].numpy()
        for batch in found
        for number, values, mask in zip(batch["_row"], batch[name], batch["audio_attention_mask"], strict=True)
    }


def same(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[i], second[i]) for i in first)


def test_epochs_differ_and_repeat(make, clip_dataset):
    loader, plain = make().get_train_dataloader(), make(train_masks=None).get_train_dataloader()
    epochs = [rows_of(batches(loader, epoch)) for epoch in (0, 1, 0)]
    assert not same(epochs[0], epochs[1]) and same(epochs[0], epochs[2])
    assert same(epochs[1], rows_of(batches(make().get_train_dataloader(), 1))), "without the epoch before"
    clean = rows_of(batches(plain, 0))
    assert clean.keys() == epochs[0].keys() == set(range(len(clip_dataset))) and not same(clean, epochs[0])
    for i, frames in epochs[0].items():
        lost = ~frames.any(axis=1)
        assert len(frames) in (0, len(clean[i])) and np.array_equal(frames[~lost], clean[i][: len(frames)][~lost])


@pytest.mark.parametrize("fields", [{"dataloader_persistent_workers": True}, {"per_device_train_batch_size": 11}])
def test_workers_and_batches_do_not_matter(make, fields):
    alone, shared = make().get_train_dataloader(), make(dataloader_num_workers=2, **fields).get_train_dataloader()
    for epoch in (0, 1):
        assert same(rows_of(batches(alone, epoch)), rows_of(batches(shared, epoch)))


def test_an_epoch_that_is_resumed(make):
    loader = make().get_train_dataloader()
    whole, rest = batches(loader, 1), skip_first_batches(make().get_train_dataloader(), 2)
    assert same(rows_of(whole[2:]), rows_of(batches(rest, 1)))


@pytest.mark.parametrize("partners", [None, "encoded"])
def test_an_epoch_that_is_resumed_by_several_processes(make, partners):
    """`Trainer` sets the epoch of the loader that skips batches, which does not reach the sampler."""
    trainer = make(contrastive_partners=partners) if partners else make()
    callbacks = [one for one in trainer.callback_handler.callbacks if isinstance(one, SetEpoch)]

    def shared(loader):
        return DataLoaderShard(
            loader.dataset,
            collate_fn=loader.collate_fn,
            batch_sampler=BatchSamplerShard(loader.batch_sampler, 2, 1),
        )

    whole = batches(shared(trainer.get_train_dataloader()), 1)
    loader = shared(trainer.get_train_dataloader())
    for callback in callbacks:
        callback.on_epoch_begin(trainer.args, TrainerState(epoch=1.2), trainer.control, train_dataloader=loader)
    assert same(rows_of(whole[1:]), rows_of(batches(skip_first_batches(loader, 1), 1)))


@pytest.mark.parametrize("partners", ["mined", "encoded"])
def test_mined_partners(make, partners):
    trainer = make(contrastive_partners=partners)
    first, second = (rows_of(batches(trainer.get_train_dataloader(), epoch)) for epoch in (0, 1))
    assert same(first, rows_of(batches(make().get_train_dataloader(), 0))) and not same(first, second)


def test_without_length_buckets_and_ids(make, clip_dataset):
    trainer = make(train_dataset=clip_dataset, bucket_by_length=False)
    first, second = (rows_of(batches(trainer.get_train_dataloader(), epoch)) for epoch in (0, 1))
    assert first.keys() == set(range(len(clip_dataset))) and not same(first, second)


def test_evaluation_is_complete(make, clip_dataset):
    masked, plain = (make(train_masks=name) for name in ("fixed", None))
    for found, expected in zip(masked.get_eval_dataloader(), plain.get_eval_dataloader(), strict=True):
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert masked.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]


def test_trainings_that_have_no_masks(make, clip_dataset):
    texts = clip_dataset.remove_columns(["audio", "vision"])
    with pytest.raises(RecipeError, match="`missing_protocol` gcnet loses whole modalities, but the data has only"):
        make(train_dataset=texts, train_masks="gcnet")
    with pytest.raises(ValueError, match="`train_masks` are for a `Dataset`, got list"):
        make(train_dataset=list(clip_dataset))
    with pytest.raises(ValueError, match="leave out `data_collator`"):
        FusionTrainer(data_collator=lambda rows: rows, train_masks=TrainingMasks("lnln"))


def test_fields_of_a_recipe():
    _, data_args, _ = recipe_arguments({"model_type": "dashfusion", "missing_protocol": "lnln", "missing_rates": [0.5]})
    masks = data_args.train_masks(seed=3)
    assert (masks.protocol.name, masks.rates, masks.seed, masks.redraw) == ("lnln", [0.5], 3, True)
    for fields, words in (
        ({"missing_protocol": "momke"}, "no protocol 'momke'; known are tfr"),
        ({"missing_rates": [0.5]}, "`missing_rates` does nothing without `missing_protocol`"),
        ({"missing_redraw": False}, "`missing_redraw` does nothing without"),
        ({"missing_validation": True}, "`missing_validation` does nothing without"),
        ({"missing_protocol": "fixed", "missing_rates": [0.5]}, "fixed has no rates"),
    ):
        with pytest.raises(RecipeError, match=words):
            recipe_arguments({"model_type": "dashfusion", **fields})


def test_selection_on_erased_rows(clip_recipe, tmp_path):
    """The metrics by which the best checkpoint is found are others, those of the finished run are of complete rows."""
    sizes = []

    class Note(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics, eval_dataloader=None, **kwargs):
            sizes.append((len(eval_dataloader.dataset), metrics["eval_mae"]))

    fields = {"missing_protocol": "fixed", "missing_validation": True, "output_dir": str(tmp_path / "run")}
    metrics = run_training(*parse_recipe(["--config", clip_recipe(**fields)]), callbacks=[Note()])
    (rows, mae), *_ = sizes
    assert rows == 3 * 17 and mae != metrics["validation"]["mae"]
    with pytest.raises(RecipeError, match="`missing_validation` does nothing, since `eval_strategy` is no"):
        run_training(*parse_recipe(["--config", clip_recipe(**fields, **NO_SELECTION)]))
