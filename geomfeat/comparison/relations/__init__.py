"""What follows from initialization scale, learning rate and width: slopes, equal fit, phase maps."""
