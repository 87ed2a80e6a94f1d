"""What of the documentation is made from the package when the pages are built: `everything.write`."""
