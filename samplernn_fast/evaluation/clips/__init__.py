"""What is wrong with a generated clip, without a listener: silence, clipping, an offset, a loop, noise, clicks.

Bits per sample say how well a model predicts real audio; they do not say whether what it makes by itself falls silent,
crackles, turns into noise or goes round in circles. `measures` measures a clip block by block, `detectors` has the
limits beyond which a measure is a fault, each with its reason.
"""
