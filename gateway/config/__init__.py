"""From the text of gateway.yaml to checked, frozen models, and the values derived from them."""
