"""The CNN: its inputs' scaling, the network, its training, the search for its hyperparameters."""
