"""How much generated clips are like a data set of labelled words, by a small classifier that is trained on that set.

Read `metrics` first: the four scores that papers on spoken digits (SC09) print. `network` is the classifier, `training`
makes one of a data folder, `scores` puts clips through it.
"""
