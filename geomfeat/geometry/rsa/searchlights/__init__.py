"""RDMs of the voxels around every voxel of a volume."""

from geomfeat.geometry.rsa.searchlights.volume import Searchlights, searchlight_rdms

__all__ = ["Searchlights", "searchlight_rdms"]
