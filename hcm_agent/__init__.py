"""The on-premises agent: dials out to the relay, and connects to one TCP target each.

- `cli`: the command ``hcm``; `commands`: its verbs; `control`: how they speak to the service
- `running`: one run of the service; `service`: what the verbs do to it
- `state_directory`, `store`, `key_storage`: what survives it, and where the keys are
- `settings`: everything the agent can be told, from flags, environment and file
- `agent`: every hybrid connection in a task of its own; drain and reload
- `hybrid_connection`: one hybrid connection: its listener, and a task per accepted connection
- `target`: one accepted connection, joined to one TCP target
- `port_names`, `azbridge`: the same for senders that speak azbridge's preamble, TCP and UDP
- `target_lookup`: the target that the relay's metadata names
- `endpoint_health`: whether the target can be reached
- `relay_facts`, `description`, `log_ring`, `endpoint_test`: what the verbs show
- `status`: how each hybrid connection fares
"""
