"""How scorers are built, run and isolated."""
