"""How the verbs speak to the service: HTTP over a Unix socket, or over loopback with a token.

- `door`: where the service listens, and how the verbs find it
- `server`: the service's side
- `client`: the verbs' side
"""
