"""What happens before a plan is put in force, and when it is."""
