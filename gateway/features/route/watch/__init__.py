"""The watch of routes that serve: when a leaf is taken back."""
