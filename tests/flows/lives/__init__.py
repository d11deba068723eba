"""Every life an event may have: a package, so that what its tests share ends with them."""
