"""Whether one judge may replace another: its loss to people, its shifts between targets, its price, its power."""
