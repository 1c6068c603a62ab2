"""Radio: endless sound that nobody has to watch, of which every minute can be made again."""
