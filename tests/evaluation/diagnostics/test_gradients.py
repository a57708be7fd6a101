import json

import pytest

from hf_fusion.evaluation.diagnostics.gradients import gradient_section


def write(folder, **values):
    logs = [{"step": step, "loss": 1.0, **values} for step in (10, 20)] + [{"step": 20, "eval_loss": 1.0}]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": logs}))


HEALTHY = {"gradient_norm_fine": 1.0, "gradient_norm_coarse": 0.5, "gradient_norm_intensity": 0.4,
           "gradient_cosine_fine_coarse": 0.6, "gradient_norm_guidance": 0.1}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({}, []),
        ({"gradient_norm_coarse": 20.0}, ["share of the strongest loss"]),
        ({"gradient_cosine_fine_coarse": -0.5}, ["cosine of fine and coarse"]),
        ({"gradient_norm_guidance": 1e-6}, ["pull of the fine loss at the guidance, as a share"]),
    ],
    ids=["healthy", "dominated", "conflict", "guidance"],
)
def test_verdicts(tmp_path, changes, failing):
    write(tmp_path, **{**HEALTHY, **changes})
    section = gradient_section(tmp_path)
    assert [finding.name for finding in section.findings if not finding.ok] == failing
    assert len(section.findings) == 3
    top, bottom = section.figures["task_gradients"].axes
    assert {line.get_label(): list(line.get_ydata()) for line in top.lines}["fine"] == [1, 1]
    assert bottom.lines[0].get_label() == "fine and coarse" and bottom.get_ylim()[1] > 1
    if changes.get("gradient_norm_coarse"):
        assert "coarse drowns the others" in section.findings[0].text


def test_runs_without_gradients(tmp_path):
    assert gradient_section(tmp_path) is None
    write(tmp_path)
    assert gradient_section(tmp_path) is None
