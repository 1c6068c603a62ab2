"""The sampler in Triton, installed as `samplernn_fast.kernels`. Only `backends/triton.py` and `ops.py` import it, and
nothing else in the package imports Triton.

Read the files in this order:

    product      the matrix product of all kernels, and how a launch is divided among programs
    clock        what kernels read from device memory: the time, a seed, settings
    launch       how a kernel is started, and how a sequence of launches becomes a CUDA graph
    cell_input   what a cell adds to its gates besides the recurrent product (Eq. 4-6)
    gru_cell     one step of a GRU layer (Eq. 5)
    lstm_cell    one step of an LSTM layer (Eq. 5)
    cells        which of these kernels a layer launches, and with what
    upsample     the conditioning of everything below a tier (Eq. 6)
    sample_step  the sample-level MLP, from levels to logits (Eq. 7-9)
    draw         a level from logits and a random number
    walk         all of these in the order of the tier walk, for one period of the top tier
    operators    the two steps that `samplernn_fast.ops` offers to other models

A kernel takes pointers that belong together as one named tuple; a field that is None is compiled away. Numbers that
must not be compiled into a kernel stay outside, because Triton's `do_not_specialize` does not reach into a tuple.

Letters in shapes: B streams, D units (dim), Q levels, G gates (3 GRU, 4 LSTM), F frame size, r ratio, n layers,
H numbers of a state (D, or 2 D for the LSTM's [h | c]), O conditioning of one frame (as in `models.layout`).
"""
