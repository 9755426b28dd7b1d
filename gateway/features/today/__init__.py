"""What changed in the last day."""
