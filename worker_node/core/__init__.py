"""The worker's decisions: state and event in, effects out. Reads no clock, no socket, no randomness."""
