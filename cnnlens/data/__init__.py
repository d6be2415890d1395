"""Images, and what is known about them: label maps, classes, parts."""
