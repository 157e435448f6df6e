"""What the business says, in the standard library only."""
