"""Usage and cost by key, team and user, and the floors from which limits are restored."""
