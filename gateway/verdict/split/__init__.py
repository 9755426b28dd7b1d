"""The answers of a split: callers, covariates and values."""
