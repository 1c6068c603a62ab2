"""Listening tests as in section 3.2 of the paper: pairs of clips, of which a listener prefers one, or neither.

`making` makes the folder of a test, `folder` reads it, `plan` says which pairs a listener hears, `answers` keeps what
they answer, and `tally` counts. Nothing here needs a server: `serving.listening` has it.
"""
