"""The SQL kernel: engine, tables, writing, reading, losses, retention and migrations."""
