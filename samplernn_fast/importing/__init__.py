"""Other projects' SampleRNN checkpoints, read without those projects and without running any code of theirs.

`foreign` is the way in; `detection` tells the projects apart; `projects` has a file for each; `formats` reads files;
`settings` finds what a file does not hold; `tensors` names tensors; `parity` checks the result; `live` takes
a module instead of a file.
"""
