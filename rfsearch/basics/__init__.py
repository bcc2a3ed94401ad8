"""What every other room may use: checked data, limits, ranges, drawings for notebooks, colours.

Nothing here knows of receptive fields. Start at `validation`, from which all frozen and checked
data is made.
"""
