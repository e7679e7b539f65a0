"""R-EL2: the Realm Management Monitor 1.0."""
