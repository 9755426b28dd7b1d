"""Probes: fixed requests that are asked again and again, so that a model that changed behind its name is noticed
without traffic. Digests and numbers of answers are kept, and no text."""
