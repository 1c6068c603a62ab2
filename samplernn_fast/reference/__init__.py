"""The definition in plain torch, which every backend must equal: weights, modes, cells and the draw."""
