"""The ramp of a guard: its action as the subject of the engine, commands, and its state in words."""
