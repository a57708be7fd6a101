import copy

import pytest
import torch
from datasets import Dataset
from torch import nn

from hf_fusion import FusionSentimentPipeline
from hf_fusion.evaluation.diagnostics import attribution
from hf_fusion.evaluation.diagnostics.attribution import attribution_section
from hf_fusion.evaluation.diagnostics.collect import row_inputs


@pytest.fixture
def rows(clips):
    columns = {name: [values[i] for i in (0, 1)] * 4 for name, values in clips.items()}
    return Dataset.from_dict({"id": list(map(str, range(8))), **columns, "label": [1.0, -1.0] * 4})


@pytest.fixture
def make_pipe(clip_model, clip_processor, clip_processor_b):
    def make(text="bert", **fields):
        processor = clip_processor_b if text == "dyfulm" else clip_processor
        return FusionSentimentPipeline(clip_model(text, **fields), processor=processor, device="cpu")

    return make


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(attribution, "_STEPS", 24)


@pytest.mark.parametrize("fields", [{}, {"text": "dyfulm"}, {"fusion": "concat"}, {"num_labels": 3}])
def test_contributions_add_up(make_pipe, rows, monkeypatch, fields):
    monkeypatch.setattr(attribution, "_STEPS", 128)  # weights far from the start: the score bends a lot
    section = attribution_section(make_pipe(**fields), row_inputs(rows), batch_size=3)
    found = section.data["attribution"]
    assert sum(found["modality"].values()) == pytest.approx(1) and set(found["modality"]) == {"text", "audio", "vision"}
    assert sum(found["part"].values()) == pytest.approx(1)
    assert next(iter(found["part"])) == ("aligned" if fields.get("fusion") else "bottleneck")
    panels = section.figures["attribution"].axes
    assert [bar.get_width() for bar in panels[0].patches] == pytest.approx(list(found["modality"].values()))
    assert [axes.get_xlim() for axes in panels] == [(0, 1), (0, 1)]
    low, high = section.findings[0].interval
    assert low <= section.findings[0].value <= high
    assert found["gap"] < 0.03


def test_agrees_with_a_model_that_is_a_sum(make_pipe, rows):
    """Where the score is linear in the inputs, a contribution is what the input adds."""
    pipe = make_pipe()
    weights = {name: torch.randn(pipe.model.config.to_dict()[f"{name}_feature_size"]) for name in ("audio", "vision")}

    class Sum(nn.Module):
        dashfusion = pipe.model.dashfusion

        def forward(self, audio_features, vision_features, input_ids=None, inputs_embeds=None, **masks):
            if inputs_embeds is None:
                inputs_embeds = self.dashfusion.get_input_embeddings()(input_ids)
            parts = [inputs_embeds.mean((1, 2)), audio_features.sum(1) @ weights["audio"],
                     vision_features.sum(1) @ weights["vision"]]  # fmt: skip
            return type("Output", (), {"logits": sum(parts).unsqueeze(1)})

    batch = pipe.preprocess([{name: rows[0][name] for name in ("text", "audio", "vision")}])
    pipe.model = Sum()
    values, gap = attribution._over_values(pipe, batch, torch.zeros(1, dtype=torch.long))
    found = attribution._over_modalities(values)
    for name, weight in weights.items():
        assert found[name].item() == pytest.approx((batch[f"{name}_features"].sum(1) @ weight).item(), rel=1e-4)
    assert gap.item() < 1e-3 * found["text"].abs().item() and found["text"].item() != 0


def test_an_encoder_that_reads_embeddings_otherwise_is_told(make_pipe, rows, monkeypatch):
    """RoBERTa counts positions by its ids: with padding on the left the embeddings say something else."""
    pipe = make_pipe("roberta")
    pipe.processor = copy.deepcopy(pipe.processor)  # the tokenizer is every test's
    rows = rows.map(lambda row, i: {"text": "good " * (1 + 5 * (i % 2))}, with_indices=True)
    before = attribution_section(pipe, row_inputs(rows)).findings[1].value
    pipe.processor.tokenizer.padding_side = "left"
    with torch.no_grad():  # positions count
        pipe.model.dashfusion.text_encoder.embeddings.position_embeddings.weight.normal_()
    assert attribution_section(pipe, row_inputs(rows)).findings[1].value > 3 * before


def test_the_text_that_says_nothing_keeps_its_special_tokens(make_pipe):
    pipe = make_pipe()
    ids = pipe.preprocess([{"text": "good room"}, {"text": "good"}])["input_ids"]
    blank = attribution._get_embeddings(pipe, "input_ids", ids)[1]
    tokenizer = pipe.processor.tokenizer
    special = torch.isin(ids, torch.tensor([tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]))
    assert torch.equal(blank[special], ids[special]) and set(blank[~special].tolist()) == {tokenizer.unk_token_id}
    assert special.sum() >= 5 and (~special).sum() >= 3


def test_one_clip_has_no_mean_to_differ_from(make_pipe, rows):
    section = attribution_section(make_pipe(), row_inputs(rows.select([0])))
    assert section.data["attribution"]["part"] == {} and len(section.findings) == 2


def test_one_modality_that_decides_alone(make_pipe, rows):
    pipe = make_pipe()
    assert attribution_section(pipe, row_inputs(rows)).findings[0].ok
    with torch.no_grad():  # neither alignment nor fusion hears the frames
        for name in ("audio", "vision"):
            getattr(pipe.model.dashfusion, f"{name}_encoder").projection.weight.zero_()
    section = attribution_section(pipe, row_inputs(rows))
    assert section.data["attribution"]["modality"]["text"] == 1
    assert [finding.ok for finding in section.findings] == [False, True, None]
    assert section.findings[0].text == "text decides nearly alone"


def test_a_score_that_jumps_is_told(make_pipe, rows, monkeypatch):
    monkeypatch.setattr(attribution, "_STEPS", 1)
    pipe = make_pipe()
    with torch.no_grad():
        for parameter in pipe.model.classifier.parameters():
            parameter.mul_(8)
    gap = attribution_section(pipe, row_inputs(rows)).findings[1]
    assert not gap.ok and gap.value > 0.05


def test_nothing_to_share(make_pipe, rows, monkeypatch):
    assert attribution_section(make_pipe(modalities=("text",)), row_inputs(rows)) is None
    assert attribution_section(make_pipe(), row_inputs(rows.remove_columns("audio"))) is None, "no clip has all"
    monkeypatch.setattr(attribution, "find_spec", lambda name: None)
    assert "pip install 'hf-fusion[analyze]'" in attribution_section(make_pipe(), row_inputs(rows)).text


def test_a_limit_of_clips_and_a_bar(make_pipe, rows, monkeypatch):
    seen = []

    def track(steps, name, total):
        seen.append((name, total))
        return steps

    section = attribution_section(make_pipe(), row_inputs(rows), most_clips=5, batch_size=2, track=track)
    assert section.text.startswith("Integrated gradients over 5 of 8 clips.") and seen == [("attribution", 3)]
    monkeypatch.setattr(attribution, "_MOST_FRAMES", 20)
    assert "over 2 of 8 clips" in attribution_section(make_pipe(), row_inputs(rows)).text, "long clips"
    assert "small share and still be costly to lose" in section.text, "why a share is not a cost"
