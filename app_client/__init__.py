"""The application's side: local ports that lead to targets behind a relay.

- `cli`: the command ``app-client``
- `settings`: everything the client can be told, from flags, environment and file
- `client`: every local port of the process; ready file, reload and drain
- `hybrid_connection`: one of them, from the question for its target to its end
- `placement`: a loopback address for each target's host
- `hosts`, `hosts_file`, `hosts_cli`: the hosts file, so that the application keeps its names
- `forwarder`, `udp_forwarder`: one local port that leads to one target; TCP, a Unix socket or UDP
- `local_port`: what the two have in common
- `azbridge`: ask the other end for a port, where that speaks azbridge's preamble
- `target_lookup`: the target that the relay's metadata names
- `send_right`: an agent's connection string, given to the client by mistake
- `reminder`: trouble that lasts, told in the log once per change
- `reset_watch`: the application has given up while the relay is still being dialled
"""
