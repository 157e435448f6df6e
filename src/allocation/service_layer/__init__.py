"""What is done about each message, in terms of the domain and of ports."""
