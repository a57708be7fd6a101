import pytest
import yaml
from tiny_runs import TINY, TINY_CLIPS


@pytest.fixture
def recipe(tmp_path):
    def write(**changes):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**TINY, "output_dir": str(tmp_path / "run"), **changes}))
        return str(path)

    return write


@pytest.fixture
def clip_recipe(tmp_path):
    def write(**changes):
        path = tmp_path / "clips.yaml"
        path.write_text(yaml.safe_dump({**TINY_CLIPS, "output_dir": str(tmp_path / "run"), **changes}))
        return str(path)

    return write
