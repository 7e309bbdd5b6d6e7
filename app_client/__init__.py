"""The application's side: local ports that lead to targets behind a relay.

- `cli`: the command ``app-client``
- `settings`: everything the client can be told, from flags, environment and file
- `client`: every local port of the process; ready file and drain
- `forwarder`, `udp_forwarder`: one local port that leads to one target, TCP or UDP
- `local_port`: what the two have in common
- `azbridge`: ask the other end for a port, where that speaks azbridge's preamble
- `port_lookup`: the port that the relay's metadata names
- `reset_watch`: the application has given up while the relay is still being dialled
"""
