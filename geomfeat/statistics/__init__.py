"""Statistics that several rooms use: intervals, bootstrap and jackknife over groups, regression, change points."""
