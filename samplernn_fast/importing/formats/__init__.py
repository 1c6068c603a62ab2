"""Readers of the file formats that other projects write. None of them runs code in a file.

`torch_file` reads what `torch.save` wrote, `tf_bundle` checkpoints of TensorFlow 2, `array_pickle` pickles of arrays.
"""
