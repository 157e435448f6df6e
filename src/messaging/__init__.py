"""One message in, one transaction out: the machinery, which knows no bounded context."""
