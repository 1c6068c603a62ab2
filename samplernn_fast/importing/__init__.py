"""Other projects' SampleRNN checkpoints, read without those projects and without running any code of theirs.

`checkpoints` is the way in; `detection` tells the projects apart; `deepsound`, `prism`, `s4` and `theano` know one
project each; `torch_file`, `tf_bundle` and `array_pickle` read files; `settings` finds what a file does not hold;
`parity` checks the result; `live` takes a module instead of a file.
"""
