"""Models divided over two processes (FSDP2 on a CPU), and the configurations of the launcher."""

import os
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from tiny_runs import CHILDREN, LONGEST_SECONDS, ROOT
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import AutoModelForSequenceClassification

CONFIGURATIONS = sorted((ROOT / "scripts" / "accelerate").glob("*.yaml"))


def losses_of_three_steps(model, batch, learning_rate=0.01):
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    losses = []
    for _ in range(3):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def train_divided(folder, rank):
    """One of two processes; writes its losses, and checks that there is something divided."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()  # without dropout
    batch = torch.load(folder / "batch.pt")
    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    for module in reversed([*model.modules()]):  # from the bottom up, as accelerate does: some lie in others
        if type(module).__name__ in model._no_split_modules:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    divided = [module for module in model.modules() if isinstance(module, FSDPModule)]
    local = sum(values.to_local().numel() for values in model.parameters())
    whole = sum(values.numel() for values in model.parameters())
    torch.save([losses_of_three_steps(model, batch), len(divided), local / whole], folder / f"losses-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["dyfulm", "dashfusion"])
def test_learns_what_a_whole_one_does(kind, make_model, clip_model, processor, clip_processor, texts, labels, clips,
                                      tmp_path):  # fmt: skip
    if kind == "dyfulm":
        model, batch = make_model(classifier_dropout=0.0), {**processor(texts, return_tensors="pt"), **labels}
    else:
        model = clip_model(hidden_dropout_prob=0.0)
        batch = {**clip_processor(**clips, return_tensors="pt"), "labels": torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0])}
    model.eval().save_pretrained(tmp_path)
    torch.save(batch, tmp_path / "batch.pt")
    children = [CHILDREN.Process(target=train_divided, args=(tmp_path, rank)) for rank in (0, 1)]
    for child in children:
        child.start()
    for child in children:
        child.join(LONGEST_SECONDS)
        assert child.exitcode == 0
    expected = losses_of_three_steps(model, batch)
    layers = sum(type(module).__name__ in model._no_split_modules for module in model.modules())
    for rank in (0, 1):
        losses, divided, share = torch.load(tmp_path / f"losses-{rank}.pt")
        assert losses == pytest.approx(expected, rel=1e-4) and losses[2] < losses[0]
        assert divided == layers + 1 and share < 0.7


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_the_launcher_reads_its_configurations(path):
    config = load_config_from_file(str(path))
    expected = {"fsdp2": "FSDP", "two_nodes": "MULTI_GPU"}.get(path.stem, "DEEPSPEED")
    assert config.distributed_type == expected and config.mixed_precision == "bf16"
    assert f"--config_file {path.relative_to(ROOT)}" in Path(path).read_text()
