"""The HDF5 feature store: arrays, keys and files; it knows nothing of models, images or data sets."""
