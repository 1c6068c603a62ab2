"""The networks, a file a system: what training and scoring run, and what every sampler is made from."""
