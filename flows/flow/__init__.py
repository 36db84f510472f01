"""What every kind of flow shares: structure, affine layer, protocol, registry."""
