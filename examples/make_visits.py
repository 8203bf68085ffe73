"""Writes visits.csv: a made-up table of 5,000 people with up to three visits each, for the commands in the README."""

from __future__ import annotations

import csv
import random
from pathlib import Path


def main() -> None:
    """Nobody in this table exists, so a fixed seed gives nothing away."""
    coins = random.Random(1)
    with Path("visits.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["who", "age", "town", "smoker", "visit", "weight", "pressure", "pulse", "cost", "ill"])
        for person in range(5000):
            age, town, smoker = coins.randrange(100), coins.choice("ABCD"), coins.random() < 0.2
            weight, pressure = coins.gauss(75, 15), coins.gauss(105 + age / 3, 15)
            for visit in range(coins.randint(1, 3)):
                ill = coins.random() < (age + 30 * smoker) / 160
                cost = f"{coins.gammavariate(1 + age / 40 + 2 * ill, 50):.2f}" if coins.random() < 0.9 else ""
                yes_no = {True: "yes", False: "no"}
                measured = [
                    f"{weight + coins.gauss(0, 2):.1f}",
                    round(pressure + coins.gauss(0, 8)),
                    round(coins.gauss(75, 10)),
                ]
                writer.writerow([f"p{person:04}", age, town, yes_no[smoker], visit + 1, *measured, cost, yes_no[ill]])


if __name__ == "__main__":
    main()
