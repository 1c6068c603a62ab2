"""The network that names words: a log-mel spectrogram, four layers of convolutions, and a summary over time."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEL_BANDS = 40
_WINDOW_SECONDS, _HOP_SECONDS = 0.032, 0.016
_LOWEST_HZ = 60.0
_FLOOR_DB = -90.0  # A band is at least this loud, in dB of full scale, so that silence has a logarithm.
_CHANNELS = (32, 64, 96, 128)
FEATURES = _CHANNELS[-1]
"""The output layer sees so many activations of a clip, and the Fréchet distance is of these."""
LEAST_RATE = 1000
"""The lowest sample rate in Hz at which the bands differ from one another."""


class WordNetwork(nn.Module):
    """Names the class of clips of one length."""

    window: Tensor
    bands: Tensor

    def __init__(self, classes: int, sample_rate: int, samples: int) -> None:
        """sample_rate: in Hz. samples: the length of every clip."""
        super().__init__()
        self.samples = samples
        self._window = 1 << max(4, round(math.log2(_WINDOW_SECONDS * sample_rate)))
        self._hop = max(1, round(_HOP_SECONDS * sample_rate))
        self.register_buffer("window", torch.hann_window(self._window), persistent=False)
        self.register_buffer("bands", mel_bands(sample_rate, self._window), persistent=False)
        sizes = (1, *_CHANNELS)
        self.blocks = nn.Sequential(*map(_block, sizes[:-1], sizes[1:]))
        self.dropout = nn.Dropout(0.3)
        self.output = nn.Linear(FEATURES, classes)

    def spectrogram(self, clips: Tensor) -> Tensor:
        """(B, samples) amplitudes -> (B, bands, frames): the power of each band in dB, scaled to about -1 to 1."""
        spectrum = torch.stft(
            clips, self._window, self._hop, window=self.window, pad_mode="constant", return_complex=True
        )
        # A sine of full scale has |X| = sum(window) / 2, which is 0 dB here.
        power = (spectrum.abs() / (self.window.sum() / 2)).square()
        loudness = 10 * torch.log10((self.bands @ power).clamp(min=10 ** (_FLOOR_DB / 10)))
        return 1 + loudness / (-_FLOOR_DB / 2)

    def features(self, spectrogram: Tensor) -> Tensor:
        """(B, bands, frames) -> the activations before the output layer, (B, FEATURES)."""
        found: Tensor = self.blocks(spectrogram[:, None]).mean(dim=2)
        return found.mean(dim=2) + found.amax(dim=2)  # the mean alone would tell how much of a clip is silence

    def classify(self, features: Tensor) -> Tensor:
        """(B, FEATURES) -> the natural logarithms of the probabilities of the classes, (B, classes)."""
        return F.log_softmax(self.output(self.dropout(features)), dim=1)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """A convolution that halves both sides; sides of one stay, because short clips have few frames."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True),
    )


def mel_bands(sample_rate: int, window: int) -> Tensor:
    """Triangles that overlap by half and are equally wide in mel, (MEL_BANDS, window // 2 + 1).

    mel = 2595 log10(1 + Hz / 700), the formula of D. O'Shaughnessy, "Speech communication", 1987. A band too narrow to
    hold a frequency of the spectrum takes the nearest one.
    """
    edges = _hertz(torch.linspace(_mel(_LOWEST_HZ), _mel(sample_rate / 2), MEL_BANDS + 2, dtype=torch.float64))
    frequencies = torch.arange(window // 2 + 1, dtype=torch.float64) * sample_rate / window
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    bands = torch.minimum(rising, falling).clamp(min=0)
    nearest = (frequencies - centre).abs().argmin(dim=1)
    bands[torch.arange(MEL_BANDS), nearest] = bands[torch.arange(MEL_BANDS), nearest].clamp(min=0.5)
    return bands.float()


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _hertz(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)


def padded(clips: Sequence[Tensor], samples: int) -> Tensor:
    """Clips (T,) of any length as (B, samples): the end of a longer one is left out, silence follows a shorter one."""
    return torch.stack([F.pad(clip[:samples], (0, max(0, samples - len(clip)))) for clip in clips])
