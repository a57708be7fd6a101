from huggingface_hub import ModelCard

from hf_fusion.hub.export_card import write_export_card

CHECK = {"batches": 200, "largest_difference": 3e-7}


def test_of_a_model_on_the_hub(tmp_path, make_config, online):
    check = {**CHECK, "largest_difference_int8": 0.021}
    description = {"precision": "int8", "opset": 20, "check": check}
    card = ModelCard.load(write_export_card(tmp_path, "acme/tiny", make_config(), description))
    assert (card.data.base_model, card.data.base_model_relation) == ("acme/tiny", "quantized")
    assert card.data.library_name == "onnx" and card.data.pipeline_tag == "text-classification"
    assert "DyFuLM [acme/tiny](https://huggingface.co/acme/tiny) as an ONNX graph (int8, opset 20)" in card.text
    assert "200 random batches" in card.text and "8 bits 0.021 on random tokens" in card.text
    card.validate()


def test_of_a_folder(tmp_path, clip_config):
    description = {"precision": "float32", "opset": 20, "check": CHECK}
    card = ModelCard.load(write_export_card(tmp_path, str(tmp_path / "mine"), clip_config(), description))
    assert card.data.base_model is None and "base_model_relation" not in card.data.to_dict()
    assert "The DashFusion `mine` as" in card.text and "8 bits" not in card.text and str(tmp_path) not in card.content
