"""Trial noise and trial counts: capacities without the noise of trials, beside what noise alone gives, and matched."""
