"""The traces of a finished call: records, access log, spans, heartbeat; redaction and inline media."""
