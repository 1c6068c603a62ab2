"""The commands `reproduce`, each of whose experiments has flags of its own, and `search`."""
