"""Where exchanges and scores are kept: SQLite by default. The only package that says SQL; it scores nothing."""
