"""The ramp of an experiment: what the evidence says about the next step, and who takes it."""
