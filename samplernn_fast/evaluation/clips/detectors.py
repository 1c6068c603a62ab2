"""The detectors: for each kind of fault a limit beyond which a measure is one, and the reason of the limit.

A detector must leave real recordings alone, and find a fault that was planted in one. bench/clip_detectors.py measures
how often both fail, on recorded speech and on piano; the figures are in bench/results/clip_detectors.json. "Real" below
are its recordings: 3,000 spoken digits, the same joined to clips of ten seconds, piano, and others.
"""

from collections.abc import Callable
from dataclasses import dataclass

from samplernn_fast.evaluation.clips.measures import ClipMeasures


@dataclass(frozen=True)
class Detector:
    """Says whether one measure of a clip is a fault."""

    measure: Callable[[ClipMeasures], float]
    """What is compared with the limit."""
    limit: float
    """A measure of at least this is a fault."""
    words: str
    """The fault in words, with a place for the measures."""

    def reason(self, measures: ClipMeasures) -> str | None:
        """The fault in words, or None where there is none."""
        return self.words.format(measures) if self.measure(measures) >= self.limit else None


SILENCE_SECONDS, SILENCE_SHARE = 3.0, 0.8
"""Silent for three seconds on end, or four fifths of a clip that is too short for that. Rests of the piano last
up to 2.7 s; one real clip of the record above is a fault by its share: the last 1.2 s of a sonata, without a note.
A generator that has fallen silent stays so."""
CLIPPED_SHARE = 0.001
"""Of 3,000 digits that are each scaled until the highest peak is at full scale, one has more of its samples inside
flat tops; a generator at its outermost levels has far more."""
OFFSET = 0.02
"""Two and a half of 256 linear levels. Half a second of a real recording has at most 0.008, which is one level, unless
its microphone had an offset."""
LOOP_SECONDS = 2.25
"""With the lag, the same for three to four seconds. Rendered music, which alone repeats itself exactly, does so for
shorter stretches: the same figure played twice. A tone that is held for four seconds without any change is taken for a
loop, because there is nothing that tells them apart."""
NOISE_SECONDS = 0.1
"""Two windows, which a burst of a fifth of a second always fills; the sibilants of a real speaker fill one at most, see
`measures.NOISE_WINDOW_FLATNESS`."""
CLICKS_PER_SECOND, CLICK_SECONDS = 0.5, 6.0
"""One every two seconds, over six seconds at least, so that a short clip needs three of them. Lips and consonants of a
real speaker can make one now and then; no real clip of the record above has so many."""


def _silence(measures: ClipMeasures) -> float:
    """The longest silence as a share of what is a fault for a clip of this length."""
    return measures.silence / min(SILENCE_SECONDS, SILENCE_SHARE * measures.seconds)


def _clicks(measures: ClipMeasures) -> float:
    return measures.clicks / max(measures.seconds, CLICK_SECONDS)


DETECTORS = {
    "silence": Detector(_silence, 1.0, "silent for {0.silence:.1f} s on end"),
    "clipping": Detector(lambda clip: clip.clipped, CLIPPED_SHARE, "{0.clipped:.2%} of the samples lie in flat tops"),
    "offset": Detector(lambda clip: clip.offset, OFFSET, "an offset of {0.offset:.3f} of full scale"),
    "loop": Detector(lambda clip: clip.loop, LOOP_SECONDS, "repeats itself for {0.loop:.1f} s"),
    "noise": Detector(lambda clip: clip.noise, NOISE_SECONDS, "{0.noise:.2f} s of loud noise"),
    "clicks": Detector(_clicks, CLICKS_PER_SECOND, "{0.clicks} clicks"),
}
"""Every detector by the name of its fault."""


def faults(measures: ClipMeasures) -> dict[str, str]:
    """The faults of a clip: the name of each, and what was found, in words. Empty for a clip without any."""
    found = {name: detector.reason(measures) for name, detector in DETECTORS.items()}
    return {name: reason for name, reason in found.items() if reason is not None}
