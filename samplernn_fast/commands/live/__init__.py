"""The commands of live sound: `serve`, `play`, `radio`, `audition`."""
