"""Stages of a frame, in the order in which they are told, and their colours."""

# Networks in strong colours, other stages pale; for light and dark pages.
STAGE_COLOURS = {
    "resize": "#8fa3b8",
    "copy in": "#8fb8b8",
    "feature": "#2f5d8c",
    "flow": "#0b7a6b",
    "warp": "#58b09c",
    "propagate": "#7c4dbd",
    "task": "#c47f17",
    "copy flow": "#b8a58f",
    "staleness": "#a3b18a",
    "copy out": "#c9a58f",
    "decode": "#dcb46a",
    "runtime": "#9a8fa8",
}
