from pathlib import Path

import pytest

from hf_fusion.data.arguments import DataArguments
from hf_fusion.studies.run_study import _flags
from hf_fusion.studies.study import Study, StudyError
from hf_fusion.training.recipe import parse_recipe
from hf_fusion.utils.shipped import find_file


def test_settings():
    study = Study(
        "dyfulm_synthetic", {"base": {}, "new one": {"cross_fusion": "a"}}, [1, 2, 3], {"max_train_samples": 5}
    )
    study.set("num_train_epochs=2")
    study.set("variants.new one.cross_fusion=b")
    assert study.overrides == {"max_train_samples": 5, "num_train_epochs": 2}
    assert study.variants["new one"] == {"cross_fusion": "b"}
    study.variants["p = 8.5"] = {}
    study.set("variants.p = 8.5.num_fusion_layers=3")
    assert study.variants["p = 8.5"] == {"num_fusion_layers": 3}
    for wrong, words in (
        ("dataset", "FIELD=VALUE, got 'dataset'"),
        ("variants.old one.x=1", "no 'variants.old one'; known are base, new one, p = 8.5"),
        ("evaluate_on.x.y=1", "there is no 'evaluate_on.x'"),
        ("more.x=1", "there is no 'more'"),
    ):
        with pytest.raises(StudyError, match=words):
            study.set(wrong)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "a study is a mapping"),
        ("recipe: x\nseeds: [1]", "recipe, variants and seeds"),
        ("recipe: x\nseeds: [1]\nvariants: {}\nmore: 1", "unknown field more"),
        ("a: [", "study.yaml"),
        ("recipe: x\nseeds: [1]\nvariants: {}", "variants must be a mapping"),
        ("recipe: x\nseeds: 1\nvariants: {a: {}}", "seeds must be a list of whole numbers, got 1"),
        ("recipe: x\nseeds: [1, 1]\nvariants: {a: {}}", "a seed occurs twice"),
        ("recipe: x\nseeds: [1]\nvariants: {a: {}}\ninterval: z", "interval must be one of t, bootstrap, got 'z'"),
        (
            "recipe: x\nseeds: [1]\nvariants: {a: {}, b: {}}\nfamilies: {m: {metric: [mae]}}",
            "families.m has the unknown field 'metric'",
        ),
        (
            "recipe: x\nseeds: [1]\nvariants: {a: {}, b: {}}\nfamilies: {m: {variants: [a]}}",
            "families.m has 'a'; compared are b",
        ),
        (
            "recipe: x\nseeds: [1]\nvariants: {a: {}, b: {}}\nfamilies: {m: {metrics: [mae]}, n: {variants: [b]}}",
            "the families 'm' and 'n' share a comparison",
        ),
        ("recipe: x\nseeds: [1]\nvariants: {a: {}}\nclusters: '('", "clusters must be a regular expression, got '\\('"),
        (
            "recipe: x\nseeds: [1]\nvariants: {a: {}}\nclusters: x\nfolds: [1]",
            "with folds these are resampled: remove clusters",
        ),
        ("recipe: x\nseeds: [1]\nvariants: {a: {}}\npaper: {b: {}}", "paper has 'b', which is not a variant"),
        ("recipe: x\nseeds: [1]\nvariants: {a: {}}\npareto: [1, 2, 3]", "pareto needs"),
        ("recipe: x\nseeds: [1]\nvariants: {a: {}}\npareto_variants: [b]", "'b', which is not a variant"),
        ("recipe: x\nseeds: [1]\nvariants: {a: {}}\nevaluate_on: {test: {}}", "cannot have the name 'test'"),
        ("recipe: x\nseeds: [1]\nvariants: {a: {}}\nevaluate_on: {b: {augmentations: {typos: 1}}}", "for training"),
        (
            "recipe: x\nseeds: [1]\nvariants: {a: {}}\nevaluate_on: {b: {missing_protocol: lnln}}",
            "missing_protocol, which is for",
        ),
        ("recipe: x\nseeds: [1]\nvariants: {a: {}}\nevaluate_on: {b: {c: 1}}", "'b' has the unknown field c"),
    ],
)
def test_files_that_are_no_study(tmp_path, text, words):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=words):
        Study.read(str(path))


def test_shipped_studies_are_readable():
    root = Path(__file__).parents[2]
    paths = list((root / "hf_fusion/recipes/studies").glob("*.yaml"))
    assert len(paths) > 5
    for path in paths:
        study = Study.read(str(path))
        recipe = str(find_file(study.recipe, "recipe"))
        for changes in study.variants.values():
            fields = {name: value for name, value in changes.items() if name != "baseline"}
            flags = _flags({**study.overrides, **fields})
            parse_recipe(["--config", recipe, *flags])  # every field exists and can have this value
        for data_fields in study.evaluate_on.values():
            DataArguments(**{name: value for name, value in data_fields.items() if name != "split"})
