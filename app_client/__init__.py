"""The application's side: local TCP ports that lead to targets behind a relay.

- `cli`: the command ``app-client``
- `settings`: everything the client can be told, from flags, environment and file
- `client`: every local port of the process; ready file and drain
- `forwarder`: one local port that leads to one target
- `port_lookup`: the port that the relay's metadata names
- `reset_watch`: the application has given up while the relay is still being dialled
"""
