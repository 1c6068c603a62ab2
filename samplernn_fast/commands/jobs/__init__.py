"""The command `jobs`: commands that many processes share, on this machine, under SLURM or in Kubernetes."""
