"""Where the runs of a sweep are computed: in this process, on a dask cluster, or by a batch system."""
