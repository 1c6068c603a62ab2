"""From folders of sound to batches of levels.

`preparation` makes a data folder of audio files (`decoding` reads them, `splits` shares them out, `report` says what
was done). `folder` opens a data folder. `batches` cuts it into what training and evaluation read. Read `preparation`
and then `batches`.
"""
