"""Guards on requests and answers: the texts that they read, the time of their decision, and the reply to a refused
caller."""
