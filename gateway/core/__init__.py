"""Types and pure functions that both rooms use. Imports the standard library and orjson only."""
