"""Makes the data of this package's cards."""
