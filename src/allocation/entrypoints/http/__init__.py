"""How HTTP comes in: the server and its framing, the doors, and what every route shares."""
