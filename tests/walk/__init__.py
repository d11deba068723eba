"""The walk through the running application: a package, so that what its tests share ends with them."""
