"""What is said on the wire. No I/O, no clock, no event loop."""
