"""The paper's experiments (sections 3, 3.2 and 3.3), each from one command.

Read `systems` (what is compared), `entries` (one training of one system), then `tables`. Everything that is slow is
kept in the folder of the experiments, so that the same command goes on where it was stopped.
"""
