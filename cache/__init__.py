"""The HDF5 feature store: arrays, keys and files. It imports no models, images or data sets."""
