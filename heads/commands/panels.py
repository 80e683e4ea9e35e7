"""The panels of `--help`: options and commands of one subject stand together."""

# Options
DATA = "Data"
FEATURES = "Features"
HEAD = "Head"
PROTOCOL = "Protocol"
END_TO_END = "End to end"
SWEEP = "Sweep"
SCORES = "Scores"
SPEED = "Speed"
OUTPUT = "Output"

# In the order of the help; what has no panel comes first.
ORDER = (DATA, FEATURES, SCORES, HEAD, PROTOCOL, SWEEP, END_TO_END, SPEED, OUTPUT)

# Commands
STAGE_1 = "Stage 1: data and features"
STAGE_2 = "Stage 2: heads"
RESULTS = "Results"
USE = "Use of a model"
MORE = "More"
