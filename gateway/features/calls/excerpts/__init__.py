"""The parts of a call's texts that a page shows: its question, and the passages that judges name."""
