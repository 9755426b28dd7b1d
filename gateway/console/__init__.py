"""The console: the admin API for keys, teams and organizations. Above the two rooms, which do not know it."""
