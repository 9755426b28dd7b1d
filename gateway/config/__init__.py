"""Turns the text of gateway.yaml into checked, frozen models, and derives values from them."""
