"""What Azure Relay does, without I/O."""
