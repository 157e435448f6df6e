"""How HTTP comes in: the server, the bridge to our threads, the doors, and what every route shares."""
