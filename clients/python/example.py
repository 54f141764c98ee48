#!/usr/bin/env python3
"""Scores rows of comma-separated numbers: example.py SOCKET MODEL < rows.csv"""

import sys

from picket_lane import Lane, LaneError


def main():
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} SOCKET MODEL < rows.csv")
    rows = [[float(field or "nan") for field in line.strip().split(",")] for line in sys.stdin]
    try:
        with Lane(sys.argv[1]) as lane:
            scores, = lane.model(sys.argv[2]).predict(rows)
    except LaneError as error:
        sys.exit(f"scoring with {sys.argv[2]}: {error}")
    for score in scores:
        print(",".join(f"{value:.9g}" for value in score))


if __name__ == "__main__":
    main()
