"""The command `abtest`."""
