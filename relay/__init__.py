"""The service: joins listeners and senders at a rendezvous."""
