"""Voice descriptors of DashFusion: 23 named columns computed in numpy, and the speech regions that follow from them."""

import numpy as np

SAMPLE_RATE = 16000  # samples a second
_STEP = SAMPLE_RATE // 100  # descriptors are computed every 10 ms, then averaged to the rate asked for
_WINDOW, _FFT = 400, 512  # 25 ms: spectrum
_PITCH_WINDOW = 800  # 50 ms: three periods of the lowest pitch
_LOWEST, _HIGHEST = 60, 400  # Hz, pitch
_LONGEST_LAG, _SHORTEST_LAG = SAMPLE_RATE // _LOWEST, SAMPLE_RATE // _HIGHEST
_PITCH_FFT = 1152  # at least the window and the longest lag, and fast
_MARGIN = _PITCH_WINDOW // 2 - _STEP // 2  # samples before and after the step in the middle of a pitch window
# Steps computed at once: few enough for the cache, and always the same ones, so that sums do not depend on the blocks.
_SEGMENT = 50

DESCRIPTORS = (
    "log_energy",  # ln of the mean square
    "f0_semitones",  # above 27.5 Hz; 0: unvoiced
    "voicing",  # 0 to 1
    "centroid",  # Hz
    "slope",  # dB per standard deviation of frequency
    "flux",  # 0 to 1.41
    "alpha_ratio",  # dB
    "hammarberg",  # dB
    "flatness",  # 0 to 1
    "zero_crossings",  # share of the samples
    *(f"mfcc_{i}" for i in range(1, 14)),  # ln, orthonormal
)


def check_samples(samples):
    """
    Samples as every audio extractor takes them.

    Args:
        samples (`np.ndarray` of shape `(samples,)`): mono sound at 16 kHz, floats; full scale is -1 to 1.

    Returns:
        `np.ndarray` of float32: NaN as silence, the rest within full scale.

    Raises:
        ValueError: if the array has another shape or type.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise ValueError(
            f"The samples are of shape {samples.shape} and type {samples.dtype}. Give mono sound at "
            f"{SAMPLE_RATE} Hz as an array of shape (samples,) of floats from -1 to 1."
        )
    return np.nan_to_num(samples.clip(-1, 1), nan=0.0).astype(np.float32)


class VoiceDescriptors:
    """
    Loudness, pitch and timbre of a recording, `rate` times a second, at some 2 ms of one core per second of sound.

    Each 10 ms step looks at the 25 ms around its middle (Hamming window, mean removed), pitch at the 50 ms. The sound
    before the start and after the end is silence. A frame is the mean of its steps; pitch is the mean of the voiced
    ones. The last frame may have fewer steps; less than 10 ms at the end are left out. So `samples` samples give
    `ceil((samples // 160) / (100 / rate))` frames.

    | column | meaning | unit |
    |---|---|---|
    | `log_energy` | loudness: ln(mean square + 1e-8) | -18.4 (silence) to 0 |
    | `f0_semitones` | pitch, 60 to 400 Hz: the highest peak of the autocorrelation divided by that of the window (Boersma 1993), parabolic between lags, with .01 per octave in favour of higher pitch | semitones above 27.5 Hz: 13.5 to 46.6; 0 where no step is voiced (voicing above .55 and log energy above -14) |
    | `voicing` | height of that peak | 0 to 1 |
    | `centroid` | mean frequency, weighted by power | Hz |
    | `slope` | regression of the spectrum in dB on frequency | dB per standard deviation of the frequencies (2,318 Hz) |
    | `flux` | distance of the square roots of two successive spectra of sum 1 (Hellinger times √2) | 0 to 1.41 |
    | `alpha_ratio` | power in 1 to 5 kHz over that in 50 Hz to 1 kHz (eGeMAPS, Eyben et al. 2016) | dB |
    | `hammarberg` | highest power below 2 kHz over that in 2 to 5 kHz (eGeMAPS) | dB |
    | `flatness` | geometric over arithmetic mean of the power spectrum | 0 (tone) to 1 (white) |
    | `zero_crossings` | changes of sign | share of the samples |
    | `mfcc_1` ... `mfcc_13` | cosine transform of the ln power in 26 mel bands from 20 Hz to 8 kHz, after a pre-emphasis of .97 (Davis & Mermelstein 1980) | ln |

    A constant offset of the samples changes nothing but the edges of the recording. The blocks fed do not change the
    result, not by a bit. An object is for one recording and one thread.

    Args:
        rate (`int`, *optional*, defaults to 20): frames a second; divides 100.

    Raises:
        ValueError: if the rate does not divide 100.

    Example:

    ```python
    import numpy as np
    from hf_fusion.models.media_voice import VoiceDescriptors

    time = np.arange(16000) / 16000
    voice = VoiceDescriptors(rate=20)
    voice.feed(0.1 * np.sign(np.sin(2 * np.pi * 150 * time)))
    frames = voice.finish()  # (20, 23)
    frames[10, voice.columns.index("f0_semitones")]  # 29.4: 12 * log2(150 / 27.5)
    ```
    """  # noqa: E501 - a table

    columns = DESCRIPTORS

    def __init__(self, rate=20):
        if not isinstance(rate, int) or rate < 1 or 100 % rate:
            raise ValueError(f"The rate of the voice descriptors is {rate!r}. Give a whole number that divides 100.")
        self.rate = rate
        self._waiting = [np.zeros(_MARGIN, np.float32)]
        self._length = _MARGIN
        self._spectrum = None  # the last one of the segment before
        self._steps = []

    def feed(self, samples):
        """
        Takes the next samples of the recording.

        Args:
            samples (`np.ndarray` of shape `(samples,)`): mono sound at 16 kHz, floats from -1 to 1.
        """
        samples = check_samples(samples)
        self._waiting.append(samples)
        self._length += len(samples)
        needed = _SEGMENT * _STEP + 2 * _MARGIN
        if self._length < needed:
            return
        sound, start = np.concatenate(self._waiting), 0
        while len(sound) - start >= needed:
            self._describe(sound[start : start + needed], _SEGMENT)
            start += _SEGMENT * _STEP
        self._waiting, self._length = [sound[start:].copy()], len(sound) - start

    def finish(self):
        """
        Ends the recording.

        Returns:
            `np.ndarray` of shape `(frames, 23)`, float32.
        """
        steps = (self._length - _MARGIN) // _STEP
        sound = np.concatenate([*self._waiting, np.zeros(_MARGIN, np.float32)])
        for start in range(0, steps, _SEGMENT):
            count = min(_SEGMENT, steps - start)
            self._describe(sound[start * _STEP : (start + count) * _STEP + 2 * _MARGIN], count)
        steps = np.concatenate([np.zeros((0, len(DESCRIPTORS)), np.float32), *self._steps])
        return _average_steps(steps, 100 // self.rate)

    def _describe(self, sound, count):
        """Adds the descriptors of `count` steps; the sound has a margin on both sides."""
        windows = np.lib.stride_tricks.sliding_window_view
        aside = (_PITCH_WINDOW - _WINDOW) // 2
        short = windows(sound[aside : len(sound) - aside], _WINDOW)[::_STEP]  # (steps, window)
        short = short - short.mean(axis=1, keepdims=True)
        energy = np.log(np.mean(short**2, axis=1) + np.float32(1e-8))
        pitch, voicing = _find_pitch(windows(sound, _PITCH_WINDOW)[::_STEP])
        pitch = np.where((voicing > 0.55) & (energy > -14), pitch, 0)
        crossings = np.mean(np.signbit(short[:, 1:]) != np.signbit(short[:, :-1]), axis=1)

        transform = np.fft.rfft(short * _HAMMING, _FFT)
        power = (transform.real**2 + transform.imag**2 + 1e-10).astype(np.float32)  # (steps, bins)
        logarithm = np.log(power)
        sums = power @ _WEIGHTS  # (steps, 4 + bands)
        total = sums[:, 0]
        shape = np.sqrt(power / total[:, None])
        before = shape[:1] if self._spectrum is None else self._spectrum
        flux = np.sqrt(np.sum(np.diff(shape, axis=0, prepend=before) ** 2, axis=1))
        self._spectrum = shape[-1:]
        hammarberg = power[:, _bins(0, 2000)].max(axis=1) / power[:, _bins(2000, 5000)].max(axis=1)
        columns = [
            energy,
            pitch,
            voicing,
            sums[:, 1] / total,
            logarithm @ _SLOPE,
            flux,
            10 * np.log10(sums[:, 3] / sums[:, 2]),
            10 * np.log10(hammarberg),
            np.exp(logarithm.mean(axis=1)) / (total / power.shape[1]),
            crossings,
            np.log(sums[:, 4:] + np.float32(1e-8)) @ _COSINES,
        ]
        self._steps.append(np.column_stack(columns).astype(np.float32))


def _average_steps(steps, group):
    """Means of `group` steps, pitch of the voiced ones; `(steps, columns)` -> `(frames, columns)`."""
    if not len(steps):
        return steps
    starts = np.arange(0, len(steps), group)
    counts = np.diff(starts, append=len(steps))
    frames = np.add.reduceat(steps, starts) / counts[:, None].astype(np.float32)
    pitch = steps[:, 1]
    frames[:, 1] = np.add.reduceat(pitch, starts) / np.maximum(np.add.reduceat(pitch > 0, starts, dtype=np.int64), 1)
    return frames


def _find_pitch(windows):
    """Pitch in semitones above 27.5 Hz and voicing of each window, `(steps, 800)` -> two of `(steps,)`."""
    windows = (windows - windows.mean(axis=1, keepdims=True)) * _HANN
    transform = np.fft.rfft(windows, _PITCH_FFT)
    power = transform.real**2 + transform.imag**2
    peaks = np.fft.irfft(power, _PITCH_FFT)[:, : _LONGEST_LAG + 2]
    peaks = peaks / ((peaks[:, :1] + np.float32(1e-6)) * _HANN_PEAKS)
    lag = np.argmax(peaks[:, _SHORTEST_LAG : _LONGEST_LAG + 1] - _OCTAVES, axis=1) + _SHORTEST_LAG
    row = np.arange(len(lag))
    left, middle, right = peaks[row, lag - 1], peaks[row, lag], peaks[row, lag + 1]
    bend = left - 2 * middle + right
    curved = np.abs(bend) > 1e-9
    offset = np.where(curved, 0.5 * (left - right) / np.where(curved, bend, 1), 0).clip(-0.5, 0.5)
    return 12 * np.log2(SAMPLE_RATE / (lag + offset) / 27.5), middle.clip(0, 1)


def _bins(lowest, end):
    """The bins of the spectrum from `lowest` up to below `end` Hz."""
    return slice(*np.ceil(np.array([lowest, end]) * _FFT / SAMPLE_RATE).astype(int))


def _make_weights():
    """Sums over the spectrum: power, power times frequency, two bands, mel bands after pre-emphasis; `(bins, 30)`."""
    frequency = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
    weights = np.zeros((len(frequency), 4))
    weights[:, 0], weights[:, 1] = 1, frequency
    weights[_bins(50, 1000), 2] = weights[_bins(1000, 5000), 3] = 1
    # the filter x[n] - .97 x[n - 1], as its effect on the power
    emphasis = np.abs(1 - 0.97 * np.exp(-2j * np.pi * frequency / SAMPLE_RATE)) ** 2
    ends = 1127 * np.log1p(np.array([20, 8000]) / 700)
    edges = 700 * np.expm1(np.linspace(*ends, 28) / 1127)
    rising = (frequency[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency[:, None]) / (edges[2:] - edges[1:-1])
    bands = np.maximum(0, np.minimum(rising, falling))
    return np.concatenate([weights, bands * emphasis[:, None]], axis=1).astype(np.float32)


def _make_slope():
    """Weights of the regression of the spectrum in dB on the standardised frequency; `(bins,)`, to be fed with ln."""
    frequency = np.arange(_FFT // 2 + 1)
    standard = (frequency - frequency.mean()) / frequency.std()
    return (10 / np.log(10) * standard / len(frequency)).astype(np.float32)


_HAMMING, _HANN = np.hamming(_WINDOW).astype(np.float32), np.hanning(_PITCH_WINDOW).astype(np.float32)
_hann_peaks = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(_PITCH_WINDOW), _PITCH_FFT)) ** 2)[: _LONGEST_LAG + 2]
_HANN_PEAKS = (_hann_peaks / _hann_peaks[0]).astype(np.float32)
_OCTAVES = (0.01 * np.log2(np.arange(_SHORTEST_LAG, _LONGEST_LAG + 1) / _SHORTEST_LAG)).astype(np.float32)
_WEIGHTS, _SLOPE = _make_weights(), _make_slope()
_COSINES = np.cos(np.pi / 26 * (np.arange(26)[:, None] + 0.5) * np.arange(1, 14)) * np.sqrt(2 / 26)
_COSINES = _COSINES.astype(np.float32)  # (bands, coefficients)


def speech_regions(descriptors, rate, shortest_pause=0.3, shortest_speech=0.1, hangover=0.1):
    """
    Times of speech, from voicing and loudness.

    A frame counts as voice if it has a pitch and is 2 (8.7 dB) above the level in `log_energy` that a tenth of the
    frames of the same half minute lie below. So noise and steady tones are no speech; music with a melody is.

    Args:
        descriptors (`np.ndarray` of shape `(frames, 23)`): from [`VoiceDescriptors`].
        rate (`int`): frames a second.
        shortest_pause (`float`, *optional*, defaults to 0.3): seconds; voice with smaller gaps is one region.
        shortest_speech (`float`, *optional*, defaults to 0.1): seconds of voice that make a region.
        hangover (`float`, *optional*, defaults to 0.1): seconds added at both ends, for consonants without voice; at
            most half of the shortest pause.

    Returns:
        `list[tuple[float, float]]`: start and end in seconds, ascending, apart, within the recording.

    Example:

    ```python
    import numpy as np
    from hf_fusion.models.media_voice import VoiceDescriptors, speech_regions

    time = np.arange(48000) / 16000
    voice = VoiceDescriptors(rate=20)
    voice.feed(0.1 * np.sign(np.sin(2 * np.pi * 150 * time)) * (time > 1) * (time < 2))
    speech_regions(voice.finish(), rate=20)  # [(0.9, 2.1)]
    ```
    """
    voiced = _find_voice(descriptors, rate)
    edges = np.flatnonzero(np.diff(voiced, prepend=False, append=False)).reshape(-1, 2)
    regions = []  # [start, end, frames of voice]
    for start, end in edges.tolist():
        if regions and start - regions[-1][1] < shortest_pause * rate:
            regions[-1][1:] = end, regions[-1][2] + end - start
        else:
            regions.append([start, end, end - start])
    added = min(hangover, shortest_pause / 2)
    return [
        (max(0.0, start / rate - added), min(len(voiced) / rate, end / rate + added))
        for start, end, frames in regions
        if frames >= shortest_speech * rate
    ]


def _find_voice(descriptors, rate):
    """True for frames with a pitch that stand out from the level of the background; `(frames,)`."""
    energy, pitch = descriptors[:, 0], descriptors[:, 1]
    parts = np.array_split(energy, max(1, round(len(energy) / (30 * rate))))
    floors = [np.full(len(part), np.percentile(part, 10)) for part in parts if len(part)]
    return (pitch > 0) & (energy > np.concatenate([[], *floors]) + 2)
