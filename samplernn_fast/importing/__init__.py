"""Other projects' SampleRNN checkpoints, read without those projects and without running any code of theirs.

`foreign` is the way in, and the file to read first; `live` takes a module in place of a file. `detection` tells the
projects apart, `projects` has a file for each, and `formats` reads their files. `settings` finds what a checkpoint does
not hold, `tensors` checks names and shapes, and `parity` checks the result.
"""
