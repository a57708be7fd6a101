import json
import os
import resource
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from hf_fusion import FusionTrainingArguments
from hf_fusion.training.checkpoints import (
    STAGING,
    CheckpointError,
    find_problem,
    list_checkpoints,
    newest_sound_checkpoint,
    publish_checkpoint,
    remove_old_checkpoints,
    set_aside_newer,
    writing,
)
from hf_fusion.training.run import _checkpoint_to_resume
from hf_fusion.utils.errors import RecipeError


@pytest.fixture
def make_checkpoint(tmp_path):
    def make(step):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        save_file({"weight": torch.arange(100.0)}, folder / "model.safetensors")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            torch.save({"values": torch.ones(50)}, folder / name)
        return folder

    return make


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """One bit of a tensor inside the archive."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith("data/0"))
    content[info.header_offset + 150] ^= 1
    path.write_bytes(content)


def test_a_sound_one(make_checkpoint):
    assert find_problem(make_checkpoint(3)) is None


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("model.safetensors", cut, "model.safetensors: "),
        ("optimizer.pt", cut, "optimizer.pt: "),
        ("optimizer.pt", flip, "checksum"),
        ("rng_state.pth", cut, "rng_state.pth: "),
        ("trainer_state.json", cut, "trainer_state.json: "),
        ("trainer_state.json", lambda path: path.unlink(), "no trainer_state.json"),
        ("model.safetensors", lambda path: path.unlink(), "no weights"),
        ("optimizer.pt", lambda path: path.unlink(), "no optimizer.pt"),
        ("rng_state.pth", lambda path: path.unlink(), "no rng_state.pth"),
        ("scheduler.pt", lambda path: path.write_bytes(b""), "scheduler.pt: "),
    ],
)
def test_broken_ones(make_checkpoint, name, damage, words):
    folder = make_checkpoint(3)
    damage(folder / name)
    assert words in find_problem(folder)


def test_a_shard_that_is_missing(make_checkpoint):
    folder = make_checkpoint(3)
    (folder / "model.safetensors").rename(folder / "mining.safetensors")
    assert find_problem(folder) == "no weights (.safetensors)"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    assert find_problem(folder) == "no model-1.safetensors"


def test_without_optimizer_and_scheduler(make_checkpoint):
    """As `save_only_model` leaves it."""
    folder = make_checkpoint(3)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (folder / name).unlink()
    assert find_problem(folder) is None


@pytest.mark.parametrize("name", ["optimizer.bin", "optimizer_0/__0_0.distcp", "global_step20/states.pt"])
def test_optimizers_of_other_ways_to_train(make_checkpoint, name):
    """Of FSDP and DeepSpeed."""
    folder = make_checkpoint(3)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / "optimizer.pt").rename(folder / name)
    assert find_problem(folder) is None


def test_the_newest_that_can_be_read(make_checkpoint, tmp_path):
    assert newest_sound_checkpoint(tmp_path / "nowhere") == (None, {})
    folders = [make_checkpoint(step) for step in (5, 20, 100)]
    assert newest_sound_checkpoint(tmp_path) == (folders[2], {}), "by number, not by name"
    cut(folders[2] / "model.safetensors")
    (tmp_path / "checkpoint-200").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    newest, skipped = newest_sound_checkpoint(tmp_path)
    assert newest == folders[1] and list(skipped) == ["checkpoint-200", "checkpoint-100"]
    assert "model.safetensors" in skipped["checkpoint-100"]


def test_old_ones_go_and_the_best_stays(make_checkpoint, tmp_path):
    folders = [make_checkpoint(step) for step in (5, 20, 100, 200)]
    for limit in (None, 0, -1):
        remove_old_checkpoints(tmp_path, limit, 200, None)
    assert all(folder.exists() for folder in folders)
    remove_old_checkpoints(tmp_path, 1, 100, str(folders[0]))
    assert [folder.exists() for folder in folders] == [True, False, True, True], "a newer one is of another training"


def test_newer_ones_are_set_aside(make_checkpoint, tmp_path, caplog):
    folders = [make_checkpoint(step) for step in (5, 20, 100)]
    set_aside_newer(tmp_path, str(tmp_path / "elsewhere" / "checkpoint-5"))
    assert list_checkpoints(tmp_path) == folders[::-1] and not caplog.text
    for _ in range(2):
        set_aside_newer(tmp_path, str(folders[0]))
        assert list_checkpoints(tmp_path) == folders[:1]
        assert "it is now called _passed_over-checkpoint-20" in caplog.text
        assert (tmp_path / "_passed_over-checkpoint-100" / "model.safetensors").is_file()
        for step in (20, 100):
            make_checkpoint(step)


class TestResuming:
    def wish(self, folder, wish):
        args = FusionTrainingArguments(str(folder), resume_from_checkpoint=wish, report_to="none", use_cpu=True)
        return _checkpoint_to_resume(args)

    def test_last_skips_what_is_broken_and_says_so(self, make_checkpoint, tmp_path, caplog):
        sound, broken = make_checkpoint(5), make_checkpoint(20)
        assert self.wish(tmp_path, "last") == str(broken)
        cut(broken / "optimizer.pt")
        caplog.clear()
        assert self.wish(tmp_path, "last") == str(sound)
        assert "checkpoint-20 cannot be read (optimizer.pt" in caplog.text and f"Resuming from {sound}" in caplog.text

    def test_last_without_any(self, tmp_path):
        assert self.wish(tmp_path, "last") is None

    def test_a_broken_one_by_name(self, make_checkpoint, tmp_path):
        broken = make_checkpoint(20)
        cut(broken / "model.safetensors")
        with pytest.raises(
            RecipeError, match=r"checkpoint-20 cannot be read \(model\.safetensors.*to last for the newest"
        ):
            self.wish(tmp_path, str(broken))

    def test_a_folder_with_broken_ones_alone_is_not_overwritten(self, make_checkpoint, tmp_path):
        cut(make_checkpoint(20) / "model.safetensors")
        with pytest.raises(RecipeError, match="holds a run already"):
            self.wish(tmp_path, None)
        with pytest.raises(RecipeError, match=r"checkpoint-20 cannot be read .* choose another `output_dir`"):
            self.wish(tmp_path, "last")

    def test_a_finished_run_is_not_begun_anew(self, tmp_path):
        (tmp_path / "metrics.json").write_text("{}")
        with pytest.raises(RecipeError, match="holds a finished run without checkpoints"):
            self.wish(tmp_path, "last")


def test_has_its_name_when_it_is_on_the_disk(make_checkpoint, tmp_path, monkeypatch):
    """After a power failure there is a whole one or none."""
    staged, final = tmp_path / STAGING / "checkpoint-7", tmp_path / "checkpoint-7"
    staged.parent.mkdir()
    make_checkpoint(7).rename(staged)
    state = {"global_step": 7, "best_model_checkpoint": str(staged)}
    (staged / "trainer_state.json").write_text(json.dumps(state))
    files, on_disk = {*staged.iterdir(), staged}, []

    def fsync(descriptor):
        on_disk.append((os.readlink(f"/proc/self/fd/{descriptor}"), final.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    publish_checkpoint(staged, str(final), str(final))
    assert {path for path, has_name in on_disk if not has_name} == set(map(str, files)) and len(files) == 6
    assert on_disk[-1] == (str(tmp_path), True), "and so is the name"
    assert json.loads((final / "trainer_state.json").read_text())["best_model_checkpoint"] == str(final)


class TestWhatCannotBeWritten:
    def fill(self, folder, size):
        """Writes a checkpoint while no file may grow beyond `size` bytes; returns the error."""
        staged = folder / STAGING / "checkpoint-30"
        staged.mkdir(parents=True)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            with writing("checkpoint-30", folder):
                save_file({"weight": torch.ones(1000)}, staged / "model.safetensors")
                torch.save({"values": torch.ones(5000)}, staged / "optimizer.pt")
        except CheckpointError as error:
            return str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    @pytest.mark.parametrize("size", [1000, 10_000], ids=["weights", "optimizer"])
    def test_a_full_disk(self, make_checkpoint, tmp_path, size):
        make_checkpoint(20)
        message = self.fill(tmp_path, size)
        assert message.startswith(f"checkpoint-30 could not be written to {tmp_path} (")
        assert "MiB are free there. checkpoint-20 is complete." in message
        assert "`resume_from_checkpoint` to last" in message
        assert not (tmp_path / STAGING).exists() and find_problem(tmp_path / "checkpoint-20") is None

    def test_a_folder_that_cannot_be_written_to(self, tmp_path):
        (tmp_path / "file").write_text("")
        with (
            pytest.raises(CheckpointError, match=r"The model could not .*Not a directory.*There is no checkpoint yet"),
            writing("The model", tmp_path / "file" / "run"),
        ):
            (tmp_path / "file" / "run").mkdir()

    @pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), OSError("the Hub answered 500")])
    def test_other_errors_stay_what_they_are(self, tmp_path, error):
        with pytest.raises(type(error), match=str(error)) as caught, writing("The model", tmp_path):
            raise error
        assert caught.value is error
