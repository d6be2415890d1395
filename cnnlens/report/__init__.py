"""The page, and the pictures on it."""
