"""How a model is made a judge: prompts whose material cannot steer, verdicts read from whatever it says. No scorer."""
