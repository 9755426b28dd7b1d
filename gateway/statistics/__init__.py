"""Pure arithmetic. No I/O."""
