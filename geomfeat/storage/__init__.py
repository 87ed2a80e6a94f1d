"""Files on disk: written atomically, verified by checksum, and never over files of others."""
