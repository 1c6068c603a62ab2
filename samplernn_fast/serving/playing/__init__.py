"""An instrument in the terminal: one model that plays to speakers, a pipe or a file while its parameters are moved by
keys, MIDI and OSC. Its packages are those of the extra `live`."""
