"""A small trading day, played against a running service as any client would."""
