"""What wakes the house, besides a person in the UI or with `petpark build`: one sensor a file."""

import warnings

# Dagster 1.13 warns of its own parameter, which we do not set, whenever it copies a sensor; a person who builds from a
# terminal would read it as a fault.
warnings.filterwarnings("ignore", message="Parameter `owners` of initializer `SensorDefinition.__init__`")
