"""The storey between the door and the science: what a run opens, what it has made, where it is."""
