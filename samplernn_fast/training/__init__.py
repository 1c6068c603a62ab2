"""Training as the paper does it, with exact resumption."""
