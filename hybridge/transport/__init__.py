"""Streams of bytes over TCP, TLS and WebSocket: the only shared I/O."""
