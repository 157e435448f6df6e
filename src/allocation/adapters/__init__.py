"""What plugs into the ports."""
