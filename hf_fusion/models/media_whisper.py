"""Frames of a Whisper encoder: what DashFusion hears of a recording, without padding to 30 seconds."""

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder, WhisperModel

from .media_voice import SAMPLE_RATE, check_samples

RATES = (10, 25, 50)  # frames a second; the encoder gives 50
_ENCODER_RATE = 50
_MEL_STEP = 160  # samples
_SHORTEST = 201  # samples that the spectrogram needs for the reflection at its ends
# The fields of a Whisper configuration that the encoder depends on.
_FIELDS = (
    "activation_function", "d_model", "encoder_attention_heads", "encoder_ffn_dim", "encoder_layers",
    "max_source_positions", "num_mel_bins",
)  # fmt: skip
_CONTEXT = 2  # seconds at the inner ends of a chunk of which the frames are not used


def encoder_from_pretrained(name_or_folder):
    """
    The encoder of a Whisper checkpoint, as it travels with a processor.

    Args:
        name_or_folder (`str` or `os.PathLike`): any Whisper checkpoint of transformers.

    Returns:
        `tuple[dict, dict[str, torch.Tensor]]`: the fields of the configuration and the weights in float16, for
        [`build_encoder`].

    Raises:
        ValueError: if the checkpoint is of another architecture.
    """
    config = AutoConfig.from_pretrained(name_or_folder)
    if config.model_type != "whisper":
        raise ValueError(
            f"{name_or_folder} is a checkpoint of {config.model_type!r}. Give a Whisper checkpoint, such as "
            "openai/whisper-tiny.en."
        )
    encoder = WhisperModel.from_pretrained(name_or_folder, dtype=torch.float32).encoder
    weights = {name: weight.half().contiguous() for name, weight in encoder.state_dict().items()}
    return {field: getattr(config, field) for field in _FIELDS}, weights


def build_encoder(config, state_dict):
    """
    The encoder from what [`encoder_from_pretrained`] gave. It computes in float32, in evaluation mode.

    Args:
        config (`dict`): fields of the configuration.
        state_dict (`dict[str, torch.Tensor]`): weights.

    Returns:
        `WhisperEncoder`.

    Raises:
        ValueError: if fields are missing or unknown.
        RuntimeError: if the weights do not fit the configuration.
    """
    if set(config) != set(_FIELDS):
        raise ValueError(f"The Whisper encoder's configuration has the fields {sorted(config)}, not {list(_FIELDS)}.")
    with torch.device("meta"):  # takes no memory and no random numbers
        encoder = WhisperEncoder._from_config(WhisperConfig(**config), attn_implementation="sdpa")
    weights = {name: weight.float() for name, weight in state_dict.items()}
    encoder.load_state_dict(weights, assign=True)
    return encoder.requires_grad_(False).eval()


class WhisperFrames:
    """
    Frames of a recording from a Whisper encoder, `rate` times a second.

    Only the real length is encoded: the log-mel spectrogram of `WhisperFeatureExtractor` without padding, with the
    positions of that length. A recording of more than 30 seconds (more exactly: than the encoder's positions) is read
    in chunks of 30 seconds that overlap by 4; of the overlap, the first half is taken from the chunk before, the other
    half from the one after. The level of the quietest sounds that the spectrogram shows (8 decades below the loudest)
    goes by chunk, as in Whisper.

    A frame is the mean of the encoder's vectors in its time, the last one of those left; less than 10 ms at the end
    are left out. So `samples` samples give `ceil((samples // 160) / (100 / rate))` frames, as many as
    [`VoiceDescriptors`] gives. The blocks fed do not change the result. An object is for one recording and one thread.

    Args:
        encoder (`WhisperEncoder`): from [`build_encoder`], on the device that computes.
        rate (`int`, *optional*, defaults to 10): frames a second: 10, 25 or 50.

    Raises:
        ValueError: for another rate, or an encoder with positions for less than 5 seconds.

    Example:

    ```python
    import numpy as np
    from hf_fusion.models.media_whisper import WhisperFrames, build_encoder, encoder_from_pretrained

    encoder = build_encoder(*encoder_from_pretrained("openai/whisper-tiny.en"))
    frames = WhisperFrames(encoder, rate=10)
    frames.feed(np.zeros(16000, np.float32))
    frames.finish().shape  # (10, 384)
    ```
    """

    def __init__(self, encoder, rate=10):
        if rate not in RATES:
            raise ValueError(f"The rate of the Whisper frames is {rate!r}. Give one of {RATES}.")
        self.encoder = encoder
        self.rate = rate
        self.columns = tuple(f"whisper_{i}" for i in range(encoder.config.d_model))
        self._seconds = encoder.config.max_source_positions // _ENCODER_RATE  # of a chunk
        if self._seconds <= 2 * _CONTEXT:
            raise ValueError(
                f"The encoder has {encoder.config.max_source_positions} positions. Give one with more than "
                f"{(2 * _CONTEXT + 1) * _ENCODER_RATE - 1}."
            )
        self._spectrogram = WhisperFeatureExtractor(
            feature_size=encoder.config.num_mel_bins, chunk_length=self._seconds
        )
        self._waiting, self._length = [], 0
        self._frames = []

    def feed(self, samples):
        """
        Takes the next samples of the recording.

        Args:
            samples (`np.ndarray` of shape `(samples,)`): mono sound at 16 kHz, floats from -1 to 1.
        """
        samples = check_samples(samples)
        self._waiting.append(samples)
        self._length += len(samples)
        chunk = self._seconds * SAMPLE_RATE
        if self._length <= chunk:  # may be the last one
            return
        sound, start = np.concatenate(self._waiting), 0
        while len(sound) - start > chunk:
            self._encode(sound[start : start + chunk], last=False)
            start += chunk - 2 * _CONTEXT * SAMPLE_RATE
        self._waiting, self._length = [sound[start:].copy()], len(sound) - start

    def finish(self):
        """
        Ends the recording.

        Returns:
            `np.ndarray` of shape `(frames, width of the encoder)`, float32.
        """
        if self._length >= _MEL_STEP:
            self._encode(np.concatenate(self._waiting), last=True)
        return np.concatenate([np.zeros((0, len(self.columns)), np.float32), *self._frames])

    def _encode(self, sound, last):
        """Adds the frames of a chunk, without its context."""
        hidden = encode_sound(self.encoder, self._spectrogram, sound)  # (50 a second, width)
        first = _CONTEXT * _ENCODER_RATE if self._frames else 0
        end = len(hidden) if last else len(hidden) - _CONTEXT * _ENCODER_RATE
        self._frames.append(_average(hidden[first:end], _ENCODER_RATE // self.rate))


@torch.inference_mode()
def encode_sound(encoder, spectrogram, sound):
    """
    The last hidden state of a Whisper encoder for a sound that it has positions for, without padding.

    Args:
        encoder (`WhisperEncoder`): the encoder.
        spectrogram (`WhisperFeatureExtractor`): with the encoder's number of mel bands.
        sound (`np.ndarray` of shape `(samples,)`): float32, at least 160 samples.

    Returns:
        `np.ndarray` of shape `(ceil((samples // 160) / 2), width)`, float32.
    """
    steps = len(sound) // _MEL_STEP
    sound = np.pad(sound, (0, max(0, _SHORTEST - len(sound))))
    mel = spectrogram(sound, sampling_rate=SAMPLE_RATE, padding="do_not_pad", return_tensors="pt").input_features
    hidden = mel[:, :, :steps].to(encoder.conv1.weight)  # (1, bands, steps)
    hidden = nn.functional.gelu(encoder.conv1(hidden))
    hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)  # (1, positions, width)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    for layer in encoder.layers:
        hidden = layer(hidden, None)
    return encoder.layer_norm(hidden)[0].float().cpu().numpy()


def _average(hidden, group):
    """Means of `group` vectors, the last of those left: `(vectors, width)` -> `(frames, width)`."""
    starts = np.arange(0, len(hidden), group)
    counts = np.diff(starts, append=len(hidden))[:, None]
    return np.add.reduceat(hidden, starts) / counts.astype(np.float32)
