"""Which channels live and die together, in a network that is run and copied as it is."""
