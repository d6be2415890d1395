"""Running a network once and keeping what it answered."""
