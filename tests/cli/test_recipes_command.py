"""`hf-fusion recipes`."""

import pytest

from hf_fusion.cli.main import main
from hf_fusion.utils.shipped import FOLDERS, shipped_files


def test_lists_everything(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for kind in FOLDERS:
        assert {f"  {name}" for name in shipped_files(kind)} <= set(lines)
    assert "  dyfulm_synthetic" in lines and max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("dyfulm_synthetic", "dyfulm_synthetic"), ("recipes/dyfulm_synthetic", "dyfulm_synthetic"),
        ("searches/dyfulm_synthetic", "searches/dyfulm_synthetic"),
        ("ablation_dyfulm_sst", "studies/ablation_dyfulm_sst"),
    ],
)  # fmt: skip
def test_prints_one(name, path, capsys):
    assert main(["recipes", name]) == 0
    assert capsys.readouterr().out == (FOLDERS["recipe"] / f"{path}.yaml").read_text()


def test_unknown(capsys):
    assert main(["recipes", "dyfulm_synth"]) == 2
    assert "dyfulm_synth: no shipped file has this name" in capsys.readouterr().err
