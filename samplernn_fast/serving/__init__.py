"""What listens on a network: the page of a listening test. Its packages are those of the extra `serve`."""
