"""The rows that are replayed: files, their formats, the hub of Hugging Face, recorded traffic."""
