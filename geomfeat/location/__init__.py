"""Where a network is between lazy and rich: demand, movement, excess, and the location made of them."""
