"""The steps of a build, by room: each turns records into stage rows and results into records."""
