"""Training of R-FCN: targets of anchors and boxes, and the losses."""
