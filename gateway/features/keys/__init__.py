"""Keys, teams and organizations: the directory, its publication to gateways, and the admin API's operations."""
