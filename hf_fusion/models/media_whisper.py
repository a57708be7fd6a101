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
# Seconds. A longer recording is cut at its quietest moment between 2 and 4 seconds, and again. Much of a frame is its
# position in the chunk: frames of a long recording are like those of a short clip only if chunks are short, too.
_LONGEST, _CUT_FROM, _CUT_TO = 5, 2, 4
_QUIET = 4  # vectors on both sides of a cut of which the loudness counts


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
    layers = {name.split(".")[1] for name in state_dict if name.startswith("layers.")}
    if config["encoder_layers"] != len(layers):  # any number of them can be built
        raise ValueError(f"The Whisper encoder has weights of {len(layers)}, not {config['encoder_layers']!r} layers.")
    with torch.device("meta"):  # takes no memory and no random numbers
        encoder = WhisperEncoder._from_config(WhisperConfig(**config), attn_implementation="sdpa")
    weights = {name: weight.float() for name, weight in state_dict.items()}
    encoder.load_state_dict(weights, assign=True)
    return encoder.requires_grad_(False).eval()


class WhisperFrames:
    """
    Frames of a recording from a Whisper encoder, `rate` times a second.

    Only the real length is encoded: the log-mel spectrogram of `WhisperFeatureExtractor` without padding, with the
    positions of that length. A recording of up to 5 seconds is encoded at once. A longer one is cut after 2 to 4
    seconds, where the 160 ms around a frame's end are quietest, until 5 seconds or less are left; no chunk knows of
    another. With chunks of 30 seconds, a model that was fitted on short clips would lose half of its accuracy on a
    concatenation of clips (measured with tiny.en on acted emotions); cut in this way, it keeps nine tenths. The
    quietest sounds that the spectrogram shows (8 decades below the loudest) go by chunk.

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
        if encoder.config.max_source_positions < _LONGEST * _ENCODER_RATE:
            raise ValueError(
                f"The encoder has {encoder.config.max_source_positions} positions. Give one with at least "
                f"{_LONGEST * _ENCODER_RATE}."
            )
        self._spectrogram = WhisperFeatureExtractor(feature_size=encoder.config.num_mel_bins)
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
        longest = _LONGEST * SAMPLE_RATE
        if self._length <= longest:  # may be the last chunk
            return
        sound, start = np.concatenate(self._waiting), 0
        while len(sound) - start > longest:
            end = start + _find_cut(sound[start : start + longest], self.rate)
            self._encode(sound[start:end])
            start = end
        self._waiting, self._length = [sound[start:].copy()], len(sound) - start

    def finish(self):
        """
        Ends the recording.

        Returns:
            `np.ndarray` of shape `(frames, width of the encoder)`, float32.
        """
        if self._length >= _MEL_STEP:
            self._encode(np.concatenate(self._waiting))
        return np.concatenate([np.zeros((0, len(self.columns)), np.float32), *self._frames])

    def _encode(self, sound):
        """Adds the frames of a chunk."""
        hidden = encode_sound(self.encoder, self._spectrogram, sound)  # (50 a second, width)
        self._frames.append(_average(hidden, _ENCODER_RATE // self.rate))


def _find_cut(sound, rate):
    """The quietest end of a frame between the limits, in samples."""
    power = np.square(sound, dtype=np.float64).reshape(-1, SAMPLE_RATE // _ENCODER_RATE).mean(axis=1)  # of each vector
    ends = np.arange(_CUT_FROM * _ENCODER_RATE, _CUT_TO * _ENCODER_RATE + 1, _ENCODER_RATE // rate)
    around = np.lib.stride_tricks.sliding_window_view(power, 2 * _QUIET)[ends - _QUIET]  # (ends, vectors around)
    return int(ends[around.mean(axis=1).argmin()]) * SAMPLE_RATE // _ENCODER_RATE


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
