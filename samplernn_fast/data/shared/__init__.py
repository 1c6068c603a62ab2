"""`prepare` as the work of many processes: each decodes its own files, and the last one makes the data folder."""
