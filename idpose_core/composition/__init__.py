"""One's own pictures: find the object, swap it, and put what was generated back in its scene."""
