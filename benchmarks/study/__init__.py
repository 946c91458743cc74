"""The study: how well preplay learns, beside its own controls and ablations and beside published methods.

python -m benchmarks.study train    # trains tasks, seeds and variants, and takes their curves in
python -m benchmarks.study add      # takes in runs that were made by hand
python -m benchmarks.study report   # makes tables and figures anew from the curves

Every curve in `benchmarks/results/study` begins with the command and the commit that made it; the report is made from
those curves and from `benchmarks/reference/hard8.csv` alone.
"""
