"""Built-in and published data sets."""
