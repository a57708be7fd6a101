"""Frames of an image encoder of transformers: how DashFusion sees pictures where no face is looked for."""

import re
from enum import IntEnum

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel

# Methods of Pillow, by number, and their names in torch.
_RESAMPLING = {2: "bilinear", 3: "bicubic"}
# The fields of an image processor that are applied.
_FIELDS = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std",
)  # fmt: skip
_BATCH = 16  # pictures encoded at once
_LARGEST = 2048  # pixels of a side that pictures are resized or cropped to
# Fields of a configuration by which transformers would load code or other files, and those that count layers.
_REFUSED = ("auto_map", "quantization_config", "_name_or_path", "name_or_path")
_COUNTED = re.compile("layer|depth|block|stage")
_CLOSE = 2.5 / 255  # Pillow and torch round differently


def image_encoder_from_pretrained(name_or_folder):
    """
    An image encoder of transformers, as it travels with a processor. Needs Pillow.

    Args:
        name_or_folder (`str` or `os.PathLike`): a checkpoint with an image processor that `AutoModel` loads without
            code of its own, such as ViT, DINOv2, ResNet; of CLIP, SigLIP and other models with a `vision_config`, the
            vision tower.

    Returns:
        `tuple[dict, dict, dict[str, torch.Tensor]]`: the configuration, the fields of the image processor, and the
        weights in float16, for [`build_image_encoder`] and [`ImageFrames`].

    Raises:
        ValueError: if weights other than those of the pooler are missing, or the image processor does more than
            [`prepare_picture`].
    """
    processor = AutoImageProcessor.from_pretrained(name_or_folder, backend="pil")
    fields = processor.to_dict()
    preprocessing = {field: _plain(fields[field]) for field in _FIELDS if fields.get(field) is not None}
    _check_preprocessing(processor, preprocessing)

    config = AutoConfig.from_pretrained(name_or_folder)
    config = getattr(config, "vision_config", config)
    with torch.random.fork_rng(devices=[]):  # a pooler without weights is drawn
        model, report = AutoModel.from_pretrained(
            name_or_folder, config=config, dtype=torch.float32, output_loading_info=True
        )
    missing = set(report["missing_keys"])
    if not all(name.startswith("pooler.") for name in missing):
        raise ValueError(f"{name_or_folder} lacks weights of {type(model).__name__}: {', '.join(sorted(missing)[:3])}.")
    weights = {
        name: weight.half().contiguous() if weight.is_floating_point() else weight
        for name, weight in model.state_dict().items()
        if name not in missing
    }
    config = config.to_dict()
    for field in ("_name_or_path", "architectures", "dtype", "transformers_version"):
        config.pop(field, None)
    return config, preprocessing, weights


def _plain(value):
    """A setting of an image processor as JSON has it."""
    if isinstance(value, tuple | list):
        return [float(number) for number in value]
    return int(value) if isinstance(value, IntEnum) else value


def _check_preprocessing(processor, preprocessing):
    """Raises a ValueError unless `prepare_picture` does the same as the image processor."""
    # not up to black and white, where Pillow and torch clip in another order
    picture = np.random.default_rng(0).integers(64, 192, (6, 8, 3), dtype=np.uint8)
    picture = np.kron(picture, np.ones((60, 60, 1), np.uint8))  # (360, 480, 3)
    expected = processor(picture, return_tensors="pt")["pixel_values"][0]
    actual = prepare_picture(picture, preprocessing)
    difference = (actual - expected).abs() if actual.shape == expected.shape else None
    scale = min(preprocessing["image_std"]) if preprocessing.get("do_normalize") else 1
    if difference is None or difference.max() > _CLOSE / scale:
        raise ValueError(
            f"{type(processor).__name__} does more than resizing, cropping the centre, rescaling and normalising: of a "
            f"picture it makes an array of shape {tuple(expected.shape)}, these steps make {tuple(actual.shape)} "
            "(or other values). Choose another image encoder."
        )


def build_image_encoder(config, state_dict):
    """
    The encoder from what [`image_encoder_from_pretrained`] gave. It computes in float32, in evaluation mode.

    Args:
        config (`dict`): the configuration.
        state_dict (`dict[str, torch.Tensor]`): weights; without those of the pooler, the encoder gets none.

    Returns:
        `PreTrainedModel`.

    Raises:
        ValueError, RuntimeError: if the names or shapes of the weights do not fit the configuration.
    """
    _check_config(config, len(state_dict))
    config = AutoConfig.for_model(**config)
    with torch.device("meta"):  # takes no memory and no random numbers
        empty = AutoModel.from_config(config)
    expected = empty.state_dict()
    absent = [name for name in expected if name.startswith("pooler.") and name not in state_dict]
    _check_size([weight for name, weight in expected.items() if name not in absent], state_dict.values())
    pooler = {name: torch.zeros(expected[name].shape) for name in absent}
    # meta tensors alone would lack the buffers that are not saved
    model, report = type(empty).from_pretrained(
        None, config=config, state_dict={**state_dict, **pooler}, dtype=torch.float32, output_loading_info=True
    )
    problems = sorted(str(name) for kind in report.values() for name in kind)
    if problems:
        raise ValueError(f"The weights do not fit {type(model).__name__}: {', '.join(problems[:3])}.")
    if pooler:
        model.pooler = None
    return model.requires_grad_(False).eval()


def _check_config(config, number):
    """
    Raises a ValueError if a configuration names code to load, or more layers than there are weights, of which any
    number could be built.
    """
    for name, value in config.items():
        name = str(name)
        if isinstance(value, dict):
            _check_config(value, number)
        if "implementation" in name or name in _REFUSED:
            raise ValueError(f"The configuration of the image encoder must not have {name!r}.")
        counts = value if isinstance(value, list) else [value]
        if _COUNTED.search(name) and any(isinstance(count, int) and count > number for count in counts):
            raise ValueError(f"The image encoder has {number} weights, but {name} = {value!r:.100}.")


def _check_size(expected, weights):
    """
    Raises a ValueError if a model needs far more values than its weights have, before memory is taken for them. Other
    releases of transformers may name and divide them in another way.
    """
    needed, given = (sum(weight.numel() for weight in values) for values in (expected, weights))
    if needed > 2 * given:
        raise ValueError(f"The weights do not fit: there are {given:,} values, the configuration needs {needed:,}.")


def prepare_picture(picture, preprocessing):
    """
    A picture as an image encoder takes it: resized, its centre cropped, rescaled and normalised.

    Args:
        picture (`np.ndarray` of shape `(height, width, 3)`): RGB, uint8.
        preprocessing (`dict`): fields of the image processor.

    Returns:
        `torch.Tensor` of shape `(3, height, width)`, float32.

    Raises:
        ValueError: for a size or method of resampling that is not supported.
    """
    pixels = torch.from_numpy(np.array(picture, order="C")).permute(2, 0, 1)[None]  # (1, 3, height, width)
    if preprocessing.get("do_resize"):
        method = _RESAMPLING.get(preprocessing.get("resample", 2))
        if method is None:
            raise ValueError(f"Resampling method {preprocessing['resample']} is not one of {sorted(_RESAMPLING)}.")
        size = _resized(preprocessing.get("size") or {}, *pixels.shape[2:])
        pixels = nn.functional.interpolate(pixels, size, mode=method, antialias=True)
    if preprocessing.get("do_center_crop"):
        pixels = _crop_center(pixels, preprocessing["crop_size"])
    pixels = pixels[0].float()
    if preprocessing.get("do_rescale"):
        pixels = pixels * preprocessing["rescale_factor"]
    if preprocessing.get("do_normalize"):
        mean, deviation = (torch.tensor(preprocessing[field])[:, None, None] for field in ("image_mean", "image_std"))
        pixels = (pixels - mean) / deviation
    return pixels


def _resized(size, height, width):
    """Height and width after the resize, from the `size` of an image processor."""
    size = {side: length for side, length in size.items() if length}
    if set(size) == {"height", "width"}:
        return size["height"], size["width"]
    if set(size) == {"shortest_edge"}:
        short, long = sorted((height, width))
        longest = int(size["shortest_edge"] * long / short)
        return (size["shortest_edge"], longest) if height < width else (longest, size["shortest_edge"])
    raise ValueError(
        f"The size {size} of the image processor is not supported. Give height and width, or shortest_edge."
    )


def _crop_center(pixels, size):
    """The centre of `(..., height, width)`, black where the picture is smaller."""
    for axis, side in ((2, "height"), (3, "width")):
        spare = pixels.shape[axis] - size[side]
        start = spare // 2
        padding = (-start, start - spare)  # negative ones crop
        pixels = nn.functional.pad(pixels, padding if axis == 3 else (0, 0, *padding))
    return pixels


class ImageFrames:
    """
    Frames of a video from an image encoder, one for each picture.

    The frame is the encoder's `pooler_output`; if there is none, or the checkpoint has no weights for it, the mean of
    its last hidden state over all positions. The pictures are encoded in batches of 16. An object is for one video and
    one thread.

    Args:
        encoder (`PreTrainedModel`): from [`build_image_encoder`], on the device that computes.
        preprocessing (`dict`): fields of the image processor.

    Example:

    ```python
    import numpy as np
    from hf_fusion.models.media_image import ImageFrames, build_image_encoder, image_encoder_from_pretrained

    config, preprocessing, weights = image_encoder_from_pretrained("openai/clip-vit-base-patch32")
    frames = ImageFrames(build_image_encoder(config, weights), preprocessing)
    frames.feed(np.zeros((360, 640, 3), np.uint8))
    frames.finish().shape  # (1, 768)
    ```
    """

    def __init__(self, encoder, preprocessing):
        for name in ("size", "crop_size"):
            sides = preprocessing.get(name) or {}
            if any(side and not 0 < side <= _LARGEST for side in sides.values()):
                raise ValueError(f"`{name}` must have sides of 1 to {_LARGEST} pixels, got {sides!r:.100}.")
        self.encoder = encoder
        self.preprocessing = preprocessing
        blank = prepare_picture(np.zeros((64, 64, 3), np.uint8), preprocessing)
        self.columns = tuple(f"image_{i}" for i in range(self._encode([blank]).shape[1]))
        self._waiting, self._frames = [], []

    def feed(self, picture):
        """
        Takes the next picture of the video.

        Args:
            picture (`np.ndarray` of shape `(height, width, 3)`): RGB, uint8.

        Raises:
            ValueError: if the array has another shape or type.
        """
        picture = np.asarray(picture)
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(
                f"The picture is of shape {picture.shape} and type {picture.dtype}. Give RGB values as an array of "
                "shape (height, width, 3) of uint8."
            )
        self._waiting.append(prepare_picture(picture, self.preprocessing))
        if len(self._waiting) == _BATCH:
            self._frames.append(self._encode(self._waiting))
            self._waiting = []

    def finish(self):
        """
        Ends the video.

        Returns:
            `np.ndarray` of shape `(pictures, width of the encoder)`, float32.
        """
        if self._waiting:
            self._frames.append(self._encode(self._waiting))
        return np.concatenate([np.zeros((0, len(self.columns)), np.float32), *self._frames])

    @torch.inference_mode()
    def _encode(self, pictures):
        """Pictures -> `(pictures, width)`."""
        outputs = self.encoder(pixel_values=torch.stack(pictures).to(self.encoder.device))
        pooled = outputs.get("pooler_output")
        if pooled is None:
            hidden = outputs.last_hidden_state  # (pictures, positions, width) or (pictures, channels, height, width)
            pooled = hidden.mean(dim=1) if hidden.ndim == 3 else hidden.mean(dim=(2, 3))
        return pooled.flatten(1).float().cpu().numpy()
