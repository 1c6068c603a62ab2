"""Live sound: models that play while their settings are moved, for several listeners at once."""
