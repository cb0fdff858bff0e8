"""What every experiment of the config gets, and what Q6 makes of all of its own."""
