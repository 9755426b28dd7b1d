"""The formats in which other tools record their calls to models."""
