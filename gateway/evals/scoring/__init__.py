"""The scoring engine: finds scorers, checks them, and runs them within their limits."""
