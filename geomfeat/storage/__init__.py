"""Files on disk: written whole, verified by checksum, and never over files of others."""
