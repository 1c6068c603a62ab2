"""What one update of a run consists of: gradients in parts (`gradients`), the optimizer's step (`optimizer`), and the
average of the weights over updates (`averaging`). `trainer` calls them in this order."""
