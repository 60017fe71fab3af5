"""What people see without asking for it again: the state of the cluster as it changes."""
