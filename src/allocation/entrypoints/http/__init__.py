"""How HTTP comes in: the server, the bridge to our threads, access control, and what every route shares."""
