import json

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from transformers import (
    BeitConfig,
    BeitModel,
    BitImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    ConvNextImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)

from hf_fusion.models.media_image import (
    ImageFrames,
    build_image_encoder,
    image_encoder_from_pretrained,
    prepare_picture,
)

pytest.importorskip("PIL")
VISION = {
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 30,
    "patch_size": 10,
}
TEXT = {"hidden_size": 16, "intermediate_size": 17, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
TEXT |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
SQUARE, CROP = {"height": 30, "width": 30}, {"size": {"shortest_edge": 35}, "crop_size": {"height": 30, "width": 30}}
# a checkpoint, its image processor, its encoder and the width of the frames
ENCODERS = {
    "clip": (
        lambda: CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8)),
        CLIPImageProcessorPil(**CROP),
        lambda model: model.vision_model,
        32,
    ),
    "siglip": (
        lambda: SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)),
        SiglipImageProcessorPil(size=SQUARE),
        lambda model: model.vision_model,
        32,
    ),
    "vit": (lambda: ViTModel(ViTConfig(**VISION)), ViTImageProcessorPil(size=SQUARE), lambda model: model, 32),
    "dinov2": (lambda: Dinov2Model(Dinov2Config(**VISION)), BitImageProcessorPil(**CROP), lambda model: model, 32),
    "beit": (
        lambda: BeitModel(BeitConfig(**VISION, vocab_size=9)),
        ViTImageProcessorPil(size=SQUARE, resample=3),
        lambda model: model,
        32,
    ),
    "resnet": (
        lambda: ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")),
        ViTImageProcessorPil(size={"height": 32, "width": 48}),
        lambda model: model,
        12,
    ),
}


def make_checkpoint(folder, name):
    torch.manual_seed(0)
    make, processor, tower, width = ENCODERS[name]
    model = make().eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return processor, tower(model), width


def pictures(count, height=48, width=64, seed=0):
    # not up to black and white, where Pillow and torch clip in another order
    coarse = np.random.default_rng(seed).integers(64, 192, (count, height // 8, width // 8, 3), dtype=np.uint8)
    return list(np.kron(coarse, np.ones((1, 8, 8, 1), np.uint8)))


def encode(encoder, preprocessing, shown):
    frames = ImageFrames(encoder, preprocessing)
    for picture in shown:
        frames.feed(picture)
    return frames.finish()


@pytest.mark.parametrize("name", ENCODERS)
def test_frames_equal_the_pooled_output_of_the_checkpoint(name, tmp_path):
    processor, model, width = make_checkpoint(tmp_path, name)
    state = torch.random.get_rng_state()
    config, preprocessing, weights = image_encoder_from_pretrained(tmp_path)
    config, preprocessing = json.loads(json.dumps([config, preprocessing]))
    assert str(tmp_path) not in json.dumps(config)
    assert {weight.dtype for weight in weights.values() if weight.is_floating_point()} == {torch.float16}
    encoder = build_image_encoder(config, load(save(weights)))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not encoder.training and not any(weight.requires_grad for weight in encoder.parameters())
    assert encoder.dtype == torch.float32

    shown = pictures(18)  # more than a batch
    frames = encode(encoder, preprocessing, shown)
    assert frames.shape == (18, width) and frames.dtype == np.float32
    with torch.inference_mode():
        pixels = processor(shown, return_tensors="pt")["pixel_values"]
        expected = model(pixel_values=pixels).pooler_output.flatten(1).numpy()
    assert np.abs(frames - expected).max() < 0.01 * np.abs(expected).max()  # weights are rounded
    assert np.abs(frames[0] - frames[1]).max() > 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("size", [(48, 64), (64, 48), (21, 29), (30, 30), (360, 640)])
@pytest.mark.parametrize("crop", [False, True])
def test_pictures_are_prepared_as_by_the_image_processor(resample, size, crop):
    settings = CROP if crop else {"size": {"height": 30, "width": 40}}
    processor = CLIPImageProcessorPil(**settings, do_center_crop=crop, resample=resample)
    picture = pictures(1, *(side // 8 * 8 for side in size))[0]
    picture = np.pad(picture, ((0, size[0] - len(picture)), (0, size[1] - picture.shape[1]), (0, 0)), mode="edge")
    expected = processor(picture, return_tensors="pt")["pixel_values"][0]
    actual = prepare_picture(picture, processor.to_dict())
    assert actual.shape == expected.shape and actual.dtype == torch.float32
    # two levels of 255, rarely
    assert (actual - expected).abs().max() < 2.1 / 255 / min(processor.image_std)
    assert (actual - expected).abs().mean() < 1e-3


def test_smaller_pictures_are_surrounded_by_black():
    settings = {"do_center_crop": True, "crop_size": {"height": 6, "width": 2}}
    prepared = prepare_picture(np.full((4, 4, 3), 7, np.uint8), settings)
    assert prepared.shape == (3, 6, 2)
    assert (prepared[:, 1:5] == 7).all() and (prepared[:, [0, 5]] == 0).all()


def test_a_pooler_without_weights_is_not_used(tmp_path):
    torch.manual_seed(0)
    model = ViTForImageClassification(ViTConfig(**VISION)).eval()
    model.save_pretrained(tmp_path)
    ENCODERS["vit"][1].save_pretrained(tmp_path)
    state = torch.random.get_rng_state()
    config, preprocessing, weights = image_encoder_from_pretrained(tmp_path)
    encoder = build_image_encoder(config, weights)
    assert torch.equal(torch.random.get_rng_state(), state)
    shown = pictures(2)
    with torch.inference_mode():
        pixels = torch.stack([prepare_picture(picture, preprocessing) for picture in shown])
        expected = model.vit(pixel_values=pixels).last_hidden_state.mean(dim=1).numpy()
    np.testing.assert_allclose(encode(encoder, preprocessing, shown), expected, atol=5e-3)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    make_checkpoint(folder, "vit")
    config, preprocessing, weights = image_encoder_from_pretrained(folder)
    return config, preprocessing, weights


def test_no_pictures_no_frames(vit):
    config, preprocessing, weights = vit
    frames = ImageFrames(build_image_encoder(config, weights), preprocessing)
    assert frames.columns == tuple(f"image_{i}" for i in range(32))
    assert frames.finish().shape == (0, 32)


def test_batches_and_other_videos_do_not_change_a_frame(vit):
    config, preprocessing, weights = vit
    encoder = build_image_encoder(config, weights)
    shown = [*pictures(17), pictures(1, 64, 48)[0]]
    together = encode(encoder, preprocessing, shown)
    alone = np.concatenate([encode(encoder, preprocessing, [picture]) for picture in shown])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_takes_views_and_leaves_them_alone(vit):
    config, preprocessing, weights = vit
    encoder = build_image_encoder(config, weights)
    picture = pictures(1)[0]
    turned = np.rot90(picture)
    turned.flags.writeable = False
    frames = encode(encoder, preprocessing, [turned])
    np.testing.assert_allclose(frames, encode(encoder, preprocessing, [np.ascontiguousarray(turned)]), atol=1e-6)
    assert np.array_equal(picture, pictures(1)[0])


def test_refuses_pictures(vit):
    config, preprocessing, weights = vit
    frames = ImageFrames(build_image_encoder(config, weights), preprocessing)
    for picture in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match=r"\(height, width, 3\) of uint8"):
            frames.feed(picture)


def test_refuses_weights_that_do_not_fit(vit):
    config, _, weights = vit
    without = {name: weight for name, weight in weights.items() if "layer.1" not in name and "layers.1" not in name}
    with pytest.raises(ValueError, match="do not fit ViTModel"):
        build_image_encoder(config, without)
    with pytest.raises((ValueError, RuntimeError), match=r"intermediate|mismatch"):
        build_image_encoder({**config, "intermediate_size": 38}, weights)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"_attn_implementation": "someone/kernel"}, "must not have '_attn_implementation'"),  # code of the Hub
        ({"auto_map": {"AutoModel": "model.Model"}}, "must not have 'auto_map'"),
        ({"num_hidden_layers": 10**9}, "weights, but num_hidden_layers = 1000000000"),
        ({"hidden_size": 10**6}, "the configuration needs"),
        ({"image_size": 10**9}, "the configuration needs"),
    ],
)
def test_refuses_hostile_configurations(field, message, vit):
    config, _, weights = vit
    with pytest.raises(ValueError, match=message):
        build_image_encoder({**config, **field}, weights)


@pytest.mark.parametrize("size", [{"height": 10**5, "width": 10**5}, {"shortest_edge": -1}])
def test_refuses_huge_pictures(size, vit):
    config, preprocessing, weights = vit
    with pytest.raises(ValueError, match="sides of 1 to 2048 pixels"):
        ImageFrames(build_image_encoder(config, weights), {**preprocessing, "size": size})


def test_refuses_image_processors_that_do_more(tmp_path):
    ENCODERS["vit"][0]().save_pretrained(tmp_path)
    ConvNextImageProcessorPil(size={"shortest_edge": 224}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="ConvNextImageProcessorPil does more"):
        image_encoder_from_pretrained(tmp_path)


def test_refuses_settings():
    picture = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="Resampling method 1"):
        prepare_picture(picture, {"do_resize": True, "size": SQUARE, "resample": 1})
    with pytest.raises(ValueError, match="longest_edge"):
        prepare_picture(picture, {"do_resize": True, "size": {"longest_edge": 30}, "resample": 3})
