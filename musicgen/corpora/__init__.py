"""Sources of pieces: a folder of MIDI files, MAESTRO, the chorales, the primes."""
