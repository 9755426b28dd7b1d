"""The engine of ramps, whatever they promote: evidence, decision, step and command."""
