"""The int4 mode's weights: how they are chosen for a model, and kept. `reference.modes` says what they mean."""
