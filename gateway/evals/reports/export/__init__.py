"""What the store holds, in the forms that other programs read."""
