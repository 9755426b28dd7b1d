"""The shell of the web console and of the admin API. Neither the gateway nor the consumer imports it."""
