"""Opening networks and addressing what is inside them."""
