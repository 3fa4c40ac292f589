"""What all layers share: records, errors, the bundle and its store, pictures, settings."""
