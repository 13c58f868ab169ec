"""Training of R-FCN: which boxes learn what, and the losses."""
