"""Work that many processes share: which part is whose, what is done and right, and how such processes are started."""
