"""The mistakes of gateway.yaml that pydantic does not find or does not word, one line each, by subject."""
