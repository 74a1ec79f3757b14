"""Online learning of recurrent networks: learning rules, architectures, streams."""
