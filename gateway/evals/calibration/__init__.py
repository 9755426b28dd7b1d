"""How far a scorer may be trusted: its verdicts against people's, and its means corrected by them."""
