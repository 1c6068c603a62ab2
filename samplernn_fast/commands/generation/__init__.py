"""The command `generate`: flags, files of all pieces at once, and jobs that many processes share."""
