"""Which channels live and die together: numbers run through the network with labels beside them."""
