"""Speech-recognition pipelines: contracts, the variants that fill them, and how they are assembled."""
