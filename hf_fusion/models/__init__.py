"""What travels with a checkpoint, and nothing else. Every module here imports only siblings, by one dot."""
