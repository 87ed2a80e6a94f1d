"""Networks, recordings and brain data compared on the same samples."""
