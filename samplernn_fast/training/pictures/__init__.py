"""What a run looks like: the curve of its bits, as a picture and as text, and the spectrograms of its sounds."""
