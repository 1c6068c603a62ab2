"""Configs that other projects can have trained, as our importer reads them, in many shapes."""

from samplernn_fast.models.config import SampleRNNConfig

_TORCH = {"top_input_linear": True, "mlp_hidden": 1, "mlp_input_relu": True, "upsample_norm_axis": "input"}


def torch_config(frames, *, q=256, dim=16, n=1, emb=None, norm=True, h0=True, quantization="linear-deepsound"):
    return SampleRNNConfig(
        **_TORCH,
        frame_sizes=(frames[0], *frames),
        q_levels=q,
        dim=dim,
        n_rnn=n,
        emb_size=emb or q,
        weight_norm="linear" if norm else "none",
        learn_h0=h0,
        quantization=quantization,
        frame_input="amplitude" if quantization == "mu-law-s4" else "code-half",
    )


DEEPSOUND = {
    "odd": (torch_config((3, 15), q=100, dim=17, n=3), "model.", False),
    "four tiers": (torch_config((2, 4, 8, 16), q=32, dim=8, norm=False), "", False),
    "one tier": (torch_config((5,), q=33, dim=7, n=2), "module.model.", False),
    "taps of 1": (torch_config((1, 7), q=2, dim=5, h0=False), "model.", False),
    "new weight norm": (torch_config((16, 64), dim=33, n=2), "_orig_mod.", True),
    "ratio 1": (torch_config((4, 4, 12), q=300, dim=9), "model.", False),
}
S4 = {
    "mu-law": (torch_config((8, 16, 32), dim=19, emb=12, quantization="mu-law-s4"), "model."),
    "linear": (torch_config((3, 6), dim=10, n=4, emb=31, quantization="linear-s4"), ""),
    "no h0": (torch_config((2, 4), dim=11, emb=8, h0=False, quantization="mu-law-s4"), "_forward_module.model."),
    "no weight norm": (torch_config((5, 5), dim=6, n=2, emb=300, norm=False, quantization="linear-s4"), "model."),
}


def prism_config(low, top, *, rnn="gru", n=1, skip=False, q=256, dim=16, quantization="linear-prism"):
    return SampleRNNConfig(
        frame_sizes=(low, low, top),
        rnn=rnn,
        n_rnn=n,
        skip="prism" if skip else "none",
        q_levels=q,
        emb_size=q,
        dim=dim,
        quantization=quantization,
        learn_h0=False,
        weight_norm="none",
        upsample_bias=False,
        top_input_linear=True,
        frame_input="code-half",
    )


PRISM = {
    "gru": (prism_config(2, 8, dim=13, n=4, quantization="mu-law-prism"), 1),
    "gru with skips": (prism_config(3, 9, n=3, skip=True, q=20, dim=9), 2),
    "one layer with skips": (prism_config(1, 5, skip=True, q=7, dim=4), 1),
    "lstm": (prism_config(16, 64, rnn="lstm", n=2, q=100, dim=11), 3),
    "lstm with skips": (prism_config(4, 4, rnn="lstm", n=2, skip=True, dim=8), 1),
}


def theano_config(*frames, rnn="gru", n=1, skip=False, q=256, dim=16, emb=8, norm=True, h0=True, mu=False):
    return SampleRNNConfig(
        frame_sizes=(frames[0], *frames),
        rnn=rnn,
        n_rnn=n,
        skip="full" if skip else "none",
        q_levels=q,
        emb_size=emb,
        dim=dim,
        reset_after=False,
        weight_norm="all" if norm else "none",
        learn_h0=h0,
        quantization="mu-law-theano" if mu else "linear-theano",
        frame_input="code-floor",
    )


THEANO = {
    "paper's three tiers": (theano_config(2, 8, dim=21, emb=13), None),
    "three tiers, skips": (theano_config(3, 6, n=3, skip=True, q=51, dim=9), 0),
    "three tiers, LSTM, skips": (theano_config(2, 4, rnn="lstm", n=2, skip=True, q=17, dim=7, mu=False), 2),
    "three tiers, LSTM, plain": (theano_config(5, 5, rnn="lstm", n=5, dim=6, norm=False, mu=True), 4),
    "two tiers, deep": (theano_config(16, n=5, q=64, dim=12), 2),
    "two tiers, one-hot": (theano_config(4, n=2, q=11, dim=10, emb=0), None),
    "two tiers, skips, plain": (theano_config(7, n=4, skip=True, q=33, dim=8, norm=False, h0=False), 2),
    "two tiers, LSTM of 12 layers": (theano_config(2, rnn="lstm", n=12, skip=True, q=9, dim=5), 2),
}
