"""What a finished call leaves behind: records, access log, spans, heartbeat; redaction and inline media."""
