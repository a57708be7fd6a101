"""Contrastive losses over the batches of two processes, against one process with the joined batch."""

from datetime import timedelta

import pytest
import torch
from conftest import encoder_config
from tiny_runs import CHILDREN, LONGEST_SECONDS
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from hf_fusion import DashFusionConfig, DashFusionForSequenceClassification
from hf_fusion.models.modeling_losses import gather_clips

CLIPS = 12


def inputs():
    generator = torch.Generator().manual_seed(5)
    audio_mask = torch.rand(CLIPS, 4, generator=generator) > 0.3
    audio_mask[2] = False  # a clip without audio
    return {
        "input_ids": torch.randint(5, 90, (CLIPS, 6), generator=generator),
        "audio_features": torch.randn(CLIPS, 4, 5, generator=generator),
        "audio_attention_mask": audio_mask,
        "vision_features": torch.randn(CLIPS, 3, 7, generator=generator),
        "labels": torch.randint(-2, 3, (CLIPS,), generator=generator).float(),
    }


def make_model(gather):
    torch.manual_seed(0)
    text = encoder_config("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    config = DashFusionConfig(
        text, audio_feature_size=5, vision_feature_size=7, hidden_size=16, num_attention_heads=2, num_encoder_layers=1,
        hidden_dropout_prob=0.0, contrastive_weight=1.0, anchor="symmetric", gather_negatives=gather,
    )  # fmt: skip
    return DashFusionForSequenceClassification(config).train()


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def step(rank, folder):
    distributed.init_process_group(
        "gloo", f"file://{folder}/store", timedelta(seconds=LONGEST_SECONDS), world_size=2, rank=rank
    )
    torch.set_num_threads(1)
    model = make_model(True)
    half = {name: value[rank * CLIPS // 2 : (rank + 1) * CLIPS // 2] for name, value in inputs().items()}
    parallel = DistributedDataParallel(model, find_unused_parameters=True)  # must outlive the backward pass
    outputs = parallel(**half)
    outputs.loss.backward()
    torch.save(
        {
            "semantic": outputs.semantic_loss,
            "supervised": outputs.supervised_loss,
            "gradients": gradients(model),
            "own": make_model(False)(**half).semantic_loss,
        },
        f"{folder}/{rank}.pt",
    )
    values = torch.arange(2.0 + rank).unsqueeze(1) + 10 * rank  # two rows, and three
    present = torch.ones(len(values), dtype=torch.bool)
    torch.save(gather_clips({"text": values}, {"text": present}, values.squeeze(1)), f"{folder}/uneven{rank}.pt")
    del parallel, outputs
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gathered")
    processes = [CHILDREN.Process(target=step, args=(rank, str(folder))) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LONGEST_SECONDS)
    assert [process.exitcode for process in processes] == [0, 0]
    return folder, [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_same_losses_and_gradients_as_the_joined_batch(gathered):
    model = make_model(True)
    outputs = model(**inputs())
    outputs.loss.backward()
    expected = gradients(model)
    for found in gathered[1]:
        torch.testing.assert_close(found["semantic"], outputs.semantic_loss, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found["supervised"], outputs.supervised_loss, rtol=1e-5, atol=1e-5)
        assert found["gradients"].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found["gradients"][name], gradient, rtol=1e-5, atol=1e-5, msg=name)


def test_batches_of_different_sizes(gathered):
    for rank in (0, 1):
        embeds, present, labels = torch.load(gathered[0] / f"uneven{rank}.pt")
        assert embeds["text"].squeeze(1)[present["text"]].tolist() == [0, 1, 10, 11, 12]
        assert len(labels) == 6 and torch.isnan(labels[2]) and not present["text"][2]


def test_without_it_each_process_has_its_own_pairs(gathered):
    first, second = gathered[1]
    assert not torch.isclose(first["own"], second["own"]) and torch.isclose(first["semantic"], second["semantic"])


def test_one_process_is_left_alone():
    embeds, present, labels = {"text": torch.ones(2, 3)}, {"text": torch.ones(2, dtype=torch.bool)}, torch.zeros(2)
    assert gather_clips(embeds, present, labels) == (embeds, present, labels)
