"""Types and pure functions that both programs use. Imports the standard library and orjson only."""
