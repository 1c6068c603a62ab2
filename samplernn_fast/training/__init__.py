"""Training as the paper does it, with exact resumption.

`config` has the settings and `presets` names sets of them. `trainer` has the loop, `resuming` what a checkpoint holds,
`updates` what an update consists of, `process` what a run needs of its processes, and `run_log` what it shows. Read
`trainer` first.
"""
