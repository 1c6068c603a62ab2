"""Sound to levels and back, without torch.

`finding` finds audio files, `reading` and `writing` turn files into float32 samples and back; `sndfile` and `ffmpeg`
decode files, within `limits`, and `resampling` changes their rate. `quantize` turns samples into levels and back; the
formulas of every law stand in `laws`. `synthetic` makes music to try things with. Read `quantize` first.
"""
