"""Confidence sequences, tests and weighted means on numbers alone: no I/O, no import from the rest of the gateway."""
