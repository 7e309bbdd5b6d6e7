"""The verbs of ``hcm``: each asks the service that runs, prints, and ends.

- `options`: the flags that they have in common
- `entries`: add, remove, restart
- `views`: list, show
- `service_verbs`: test, logs, version
- `endless`: how those end that go on
- `table`: what they print for people
"""
