"""The machinery's ways out and in over Redis streams. Redis is never the truth: what it forgets is published again."""
