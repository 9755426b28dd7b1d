"""Pure statistics: weights, confidence sequences, tests. No I/O, and nothing else of the gateway is known here."""
