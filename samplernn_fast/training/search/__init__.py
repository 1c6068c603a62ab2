"""Random search over settings: `spans` says what is searched, `study` makes the trials, `page` shows them."""
