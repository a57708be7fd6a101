"""Recipes, studies, searches and command lines: read, or refused in words; nothing in them is run."""

import contextlib
import dataclasses
import importlib
import io
from pathlib import Path
from unittest import mock

import pytest
import yaml
from hostile import NASTY_TEXTS, cases, changed, damaged, numbers, result_or, scalars, texts, values
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_runs import script_here

from hf_fusion.architectures import (
    measure_baselines,
    write_analysis,
    write_calibration,
    write_evaluation,
    write_robustness,
)
from hf_fusion.studies.run_study import _check_same_settings
from hf_fusion.studies.study import Study, StudyError
from hf_fusion.studies.tuning import Search
from hf_fusion.training.recipe import argument_groups, parse_recipe, read_recipe, resolved_recipe
from hf_fusion.utils.errors import DataError, RecipeError
from hf_fusion.utils.shipped import FOLDERS

ROOT = Path(__file__).parents[2]
FILES = {
    folder: [path.read_bytes() for path in sorted(FOLDERS[kind].glob("*.yaml"))]
    for kind, folder in (("recipe", "recipes"), ("study", "studies"), ("search", "searches"))
}
HOSTILE = [
    b'model_type: !!python/object/apply:os.system ["touch executed"]\n', b"seed: !!python/name:os.system\n",
    b"a: &a [*a]\n", b"dataset: &x {a: *x}\n", b"[" * 3000, b"{a: " * 500, b"a: 2024-13-45\n", b"seed: " + b"1" * 5000,
    b"? [a]\n: b\n", b"\xff\xfea\x00:\x00", b"a: \0\n", b"%YAML 9.9\n---\na: 1\n", b"- 1\n---\n- 2\n", b"",
    b"seed: &a [x,x,x,x,x,x,x,x]\n"
    + b"".join(b"k%d: &%c [%s]\n" % (i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(9)),
]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "a.yaml"


@pytest.mark.parametrize(
    ("folder", "read", "error"),
    [
        ("recipes", read_recipe, RecipeError),
        ("studies", Study.read, StudyError),
        ("searches", Search.read, RecipeError),
    ],
)
def test_damaged_files(place, folder, read, error):
    @cases(8)
    @given(data=damaged(FILES[folder]) | st.sampled_from(HOSTILE))
    def check(data):
        place.write_bytes(data)
        with result_or(error, seconds=20):
            read(str(place))
        assert [path.name for path in place.parent.iterdir()] == ["a.yaml"]

    check()


@pytest.mark.parametrize(
    ("folder", "read", "error"), [("studies", Study.read, StudyError), ("searches", Search.read, RecipeError)]
)
def test_changed_files(place, folder, read, error):
    for data in FILES[folder][:4]:

        @cases(3)
        @given(fields=changed(yaml.safe_load(data)))
        def check(fields):
            place.write_text(yaml.safe_dump(fields))
            with result_or(error):
                found = read(str(place))
                assert found.variants if folder == "studies" else found.space
                if folder == "studies":
                    with contextlib.suppress(RecipeError):  # a recipe that there is not
                        _check_same_settings(place.parent / "run", found.recipe, {**found.overrides, "seed": 1})
                        (place.parent / "run" / "study_settings.json").unlink()

        check()


FIELDS = sorted({item.name for group in argument_groups() for item in dataclasses.fields(group) if item.init})
# of which `TrainingArguments` would start services, or that choose devices
LEFT_ALONE = {"output_dir", "use_cpu", "no_cuda", "local_rank", "deepspeed", "fsdp", "fsdp_config", "full_determinism",
              "parallelism_config", "accelerator_config", "report_to", "log_level", "log_level_replica", "tf32",
              "ddp_backend", "mps_backend", "hub_token", "push_to_hub"}  # fmt: skip
some_fields = st.sampled_from([name for name in FIELDS if name not in LEFT_ALONE])


@cases(24)
@given(fields=st.dictionaries(some_fields, values | st.lists(numbers | texts, max_size=3), max_size=3))
def test_recipe_fields(place, fields):
    place.write_text(yaml.safe_dump(fields))
    with mock.patch("sys.stderr"), result_or(RecipeError, DataError, SystemExit):
        groups = parse_recipe(["--config", str(place), "--output_dir", str(place.parent), "--use_cpu", "true"])
        again = yaml.safe_load(yaml.safe_dump(resolved_recipe(*groups)))
        assert isinstance(again, dict)
        groups[1].source()
        groups[0].config_fields()


@cases(16)
@given(words=st.lists(st.tuples(some_fields.map("--{}".format) | texts, scalars.map(str) | texts), max_size=3))
def test_recipe_flags(place, words):
    argv = [word for pair in words for word in pair]
    with mock.patch("sys.stderr"), mock.patch("sys.stdout"), result_or(RecipeError, DataError, SystemExit):
        _, data_args, _ = parse_recipe(["--output_dir", str(place.parent), "--use_cpu", "true", *argv])
        data_args.source()


COMMANDS = {
    "predict": ["-c", "x", "--batch_size", "--dtype", "--device", "--compile", "--output", "a.csv"],
    "prepare": ["a", "b", "--modalities", "--label_range", "--rejected_rows", "--options"],
    "push": ["a", "me/b", "--private", "--revision", "--dry_run"],
    "convert": ["a", "b", "--num_heads", "--label_range", "--named_order"],
    "study": ["a", "--set", "--runs", "--slots", "--output"],
    "tune": ["a", "--trials", "--set"],
    "export": ["a", "b", "--int8", "--checks", "--seed"],
}
DATA_FLAGS = ["--split", "--batch_size", "--device", "--dataset", "--dataset_options", "--columns", "--label_range",
              "--modalities", "--damage", "--augmentations", "--output_dir", "--num_labels"]  # fmt: skip
# The function that does the work of each command, once the arguments are read.
DATA_COMMANDS = {
    "evaluate": (write_evaluation, ["--dtype"]),
    "analyze": (write_analysis, []),
    "calibrate": (write_calibration, ["--target_accuracy", "--abstain_below", "--output"]),
    "baselines": (measure_baselines, ["--output"]),
    "robustness": (write_robustness, ["--corruptions", "--baseline", "--seeds"]),
}
nasty_words = st.sampled_from([text for text in NASTY_TEXTS if "\0" not in text]) | scalars.map(str)
some_words = nasty_words | st.sampled_from(["1", "test", '{"typos": 2}', "{", '{"a": [1]}'])


@pytest.mark.parametrize("name", COMMANDS)
def test_command_lines(place, name):
    command = importlib.import_module(f"hf_fusion.cli.{name}")

    @cases(3)
    @given(words=st.lists(st.sampled_from(COMMANDS[name]) | nasty_words, max_size=6))
    def check(words):
        with mock.patch("sys.stderr"), mock.patch("sys.stdout"):
            try:
                with result_or(seconds=20):
                    command.parse_args(words)
            except SystemExit as error:
                assert error.code in (0, 2)

    check()


@pytest.mark.parametrize("name", DATA_COMMANDS)
def test_command_lines_that_choose_data(place, monkeypatch, name):
    run, (module, more) = script_here(name, monkeypatch), DATA_COMMANDS[name]
    work = module.__name__.rpartition(".")[2]
    monkeypatch.setattr(module, work, mock.Mock(side_effect=DataError("the words were read")))

    @cases(3)
    @given(
        start=st.sampled_from([[], ["--dataset", "a.npz"], ["a", "--dataset", "a.csv"], ["-c", "a"]]),
        words=st.lists(st.tuples(st.sampled_from(DATA_FLAGS + more), some_words) | st.tuples(nasty_words), max_size=3),
    )
    @example(start=["a", "--dataset", "a.csv"], words=[("what no argument takes",)])
    def check(start, words):
        with mock.patch("sys.stdout"), mock.patch("sys.stderr", io.StringIO()) as errors, result_or(seconds=20):
            status = run(*start, *(word for part in words for word in part))
            assert status == 0 or (status == 2 and f"hf-fusion {name}: " in errors.getvalue())

    check()
