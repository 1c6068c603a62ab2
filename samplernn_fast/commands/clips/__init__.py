"""What commands do with the faults of clips: `command` measures files, `choosing` sorts what `generate` made."""
