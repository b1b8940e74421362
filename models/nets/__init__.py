"""Building blocks that families share: networks, transforms, base laws."""
