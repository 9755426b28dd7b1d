"""Room 2: judges answers. May lag, may fail; room 1 does not notice."""
