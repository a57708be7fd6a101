"""Mined and encoded partners inside a training."""

from itertools import chain

import pytest
import torch
from torch import nn

from hf_fusion import DashFusionConfig, FusionTrainer, FusionTrainingArguments
from hf_fusion.training.mining import MiningRules, mine_partners
from hf_fusion.training.partner_miner import PartnerMiner, clip_classes
from hf_fusion.utils.errors import RecipeError

CLIPS = 22


def spy(trainer):
    """Records the rows of each training batch and whether partners came with it."""
    seen, original = [], trainer._with_partners

    def recorded(inputs, index):
        result = original(inputs, index)
        seen.append((index.tolist(), result[0].get("partner_mask"), len(result[0]["labels"])))
        return result

    trainer._with_partners = recorded
    return seen


class TestMined:
    def test_every_clip_once_an_epoch_and_none_encoded_twice(self, make_clip_trainer):
        trainer = make_clip_trainer()
        seen = spy(trainer)
        trainer.train()
        rows = [batch for batch, _, _ in seen]
        assert len(rows) == 18
        for epoch in range(3):
            assert sorted(chain(*rows[6 * epoch : 6 * epoch + 6])) == list(range(CLIPS))

    def test_partners_are_those_of_the_embeddings_that_training_saw(self, make_clip_trainer, clip_dataset):
        trainer = make_clip_trainer(num_train_epochs=2, learning_rate=0.0)
        for module in trainer.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
        trainer.train()
        features, model = [], trainer.model.eval()
        for row in clip_dataset:
            with torch.no_grad():
                out = model(**trainer.data_collator([row]))
            kinds = (out.text_embeds, out.audio_embeds, out.vision_embeds, out.aligned_embeds)
            features.append(torch.cat(kinds, dim=-1))
        classes = clip_classes(clip_dataset["labels"], model.config)
        expected = mine_partners(torch.cat(features), classes, MiningRules()).table()
        assert torch.equal(trainer.miner.table, expected)

    def test_a_missing_modality_counts_as_nothing(self, make_clip_trainer, clip_dataset):
        rows = list(clip_dataset)
        rows[3] = {**rows[3], "audio": None}
        trainer = make_clip_trainer(train_dataset=rows, num_train_epochs=1)
        trainer.train()
        width = trainer.model.config.hidden_size
        assert not trainer.miner._embeddings[3, width : 2 * width].any()
        assert trainer.miner._embeddings[:, :width].any(1).all()

    @pytest.mark.parametrize("embeddings", ["bank", "refresh"])
    @pytest.mark.parametrize("checkpoint", [3, 6, 9, 14])
    def test_resumes_exactly(self, make_clip_trainer, clip_model, embeddings, checkpoint):
        fields = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": None, "mining_embeddings": embeddings}
        whole = make_clip_trainer(**fields)
        whole.train()
        resumed = make_clip_trainer(**fields, model=clip_model())
        resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-{checkpoint}")
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, resumed.model.state_dict()[name]), name
        assert torch.equal(whole.miner.table, resumed.miner.table)

    def test_random_negatives_change_from_epoch_to_epoch(self, make_clip_trainer):
        trainer = make_clip_trainer(mining_embeddings="refresh", mining_refresh_epochs=1, mining_negatives="random")
        tables, original = [], trainer.miner._mine
        trainer.miner._mine = lambda epoch: (original(epoch), tables.append(trainer.miner.table.clone()))
        trainer.train()
        assert len(tables) == 3 and not torch.equal(tables[0][:, 2:], tables[1][:, 2:])

    def test_a_second_training_starts_anew(self, make_clip_trainer):
        trainer = make_clip_trainer(num_train_epochs=1, mining_embeddings="refresh")
        passes, original = [], trainer.miner.refresh
        trainer.miner.refresh = lambda miner: (passes.append(1), original(miner))
        trainer.train()
        trainer.train()
        assert len(passes) == 2

    def test_refresh_comes_every_so_many_epochs(self, make_clip_trainer):
        trainer = make_clip_trainer(num_train_epochs=5, mining_embeddings="refresh", mining_refresh_epochs=2)
        passes, original = [], trainer.miner.refresh
        trainer.miner.refresh = lambda miner: (passes.append(trainer.state.epoch), original(miner))
        trainer.train()
        assert [round(epoch or 0) for epoch in passes] == [0, 2, 4]

    def test_a_checkpoint_without_embeddings(self, make_clip_trainer):
        trainer = make_clip_trainer("batch", contrastive_partners="batch", save_strategy="epoch", num_train_epochs=1)
        trainer.train()
        with pytest.raises(RecipeError, match=r"has no mining.safetensors: it was trained without mined partners"):
            make_clip_trainer().train(resume_from_checkpoint=f"{trainer.args.output_dir}/checkpoint-6")


class TestEncoded:
    def test_six_partners_are_encoded_for_each_clip(self, make_clip_trainer):
        trainer = make_clip_trainer(contrastive_partners="encoded", num_train_epochs=2)
        seen = spy(trainer)
        trainer.train()
        for rows, mask, labels in seen:
            assert len(rows) == 7 * labels and mask.shape == (labels, 6)
            clips, table = rows[:labels], trainer.miner.table
            for kind in range(6):
                for clip, partner, there in zip(clips, rows[(1 + kind) * labels :], mask[:, kind], strict=False):
                    assert partner == (table[clip, kind] if there else clip)
        predicted = [row for rows, _, labels in seen for row in rows[:labels]]
        assert sorted(predicted) == sorted(2 * list(range(CLIPS)))

    def test_logs_the_loss_as_a_whole(self, make_clip_trainer):
        trainer = make_clip_trainer(contrastive_partners="encoded", num_train_epochs=1)
        trainer.train()
        log = next(entry for entry in trainer.state.log_history if "contrastive_loss" in entry)
        assert log["loss"] == pytest.approx(log["prediction_loss"] + 0.2 * log["contrastive_loss"], rel=1e-4)
        assert "semantic_loss" not in log


class TestClasses:
    @pytest.mark.parametrize(
        ("fields", "labels", "expected"),
        [
            ({}, [-1.4, -0.6, 0.4, None, float("nan"), 2.5, 1.6], [0, 0, 1, -1, -1, 2, 2]),
            ({"contrastive_label_step": 0.2}, [-0.2, 0.2, 0.21, 1.0], [0, 1, 1, 2]),
            ({"num_labels": 3}, [2, 0, -100, 2], [1, 0, -1, 1]),
            ({"num_labels": 2}, [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [float("nan"), 1.0]], [1, 0, 1, -1]),
        ],
        ids=["scores", "steps", "classes", "several"],
    )
    def test_are_those_of_the_loss(self, fields, labels, expected):
        assert clip_classes(labels, DashFusionConfig(**fields)).tolist() == expected


class TestErrors:
    def test_other_models(self, make_model, processor, tmp_path):
        args = FusionTrainingArguments(str(tmp_path), use_cpu=True, report_to="none", contrastive_partners="mined")
        rows = [{"labels": 1}]
        with pytest.raises(RecipeError, match="for a DashFusion with contrastive losses"):
            FusionTrainer(make_model(), args, train_dataset=rows, eval_dataset=rows, processing_class=processor)

    @pytest.mark.parametrize(
        "fields", [{"contrastive_partners": "all"}, {"mining_embeddings": "old"}, {"mining_refresh_epochs": 0}], ids=str
    )
    def test_arguments(self, tmp_path, fields):
        given = {"contrastive_partners": "mined", **fields}
        with pytest.raises(ValueError, match=f"`{next(iter(fields))}` must be"):
            FusionTrainingArguments(str(tmp_path), use_cpu=True, report_to="none", **given)

    def test_arguments_that_would_do_nothing(self, tmp_path):
        with pytest.raises(ValueError, match="`mining_margin` does nothing with contrastive_partners batch"):
            FusionTrainingArguments(str(tmp_path), use_cpu=True, report_to="none", mining_margin=0.1)

    def test_no_batch_is_short(self, tmp_path):
        with pytest.raises(ValueError, match="`dataloader_drop_last` does nothing with mined"):
            FusionTrainingArguments(
                str(tmp_path), use_cpu=True, report_to="none", contrastive_partners="mined", dataloader_drop_last=True
            )

    def test_a_checkpoint_of_other_data(self, tmp_path):
        PartnerMiner(torch.zeros(3, dtype=torch.long), MiningRules()).save(tmp_path, write=True)
        with pytest.raises(RecipeError, match="is of 3 clips, the training data has 4"):
            PartnerMiner(torch.zeros(4, dtype=torch.long), MiningRules()).load(tmp_path)
