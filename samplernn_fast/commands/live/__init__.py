"""The commands of live sound: `serve`."""
