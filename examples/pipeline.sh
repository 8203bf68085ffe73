#!/bin/sh
# What a release pipeline does with dpsynth, a stage a call; pipeline.yml calls the stages in this order.
#
#   release   spends budget; the only stage that sees rows, ledger and the pipeline's key. A new job id is a new charge.
#   verify    is the folder what its manifest says, and signed with a key that the pinned policy names?
#   gate      judges it on this day; writes gate.xml (JUnit), gate.sarif, summary.md; ends with the verdict's exit code
#   publish   copies it to the shelf, judges the copy, and puts it in place only where both say 0
#   again     judges what is on the shelf, on this day: for a schedule
#
# Exit codes: 0 go on; 3 wait for a person (docs/reviewing.md), then run verify, gate and publish again, never release; 1 and
# 4 stop, nothing undoes it; 5 stop and look; 2, 6, 7 and 130 are told on stderr. No stage turns one into another.
set -eu

DESK=${DESK:-desk}      # the release while it waits
SHELF=${SHELF:-shelf}   # the release once it is published: only what may leave the house
LOGS=${LOGS:-logs}      # JUnit, SARIF, summary: made from the shareable edition

explain() {
  case $1 in
    0) echo "pipeline: pass" ;;
    1) echo "pipeline: FAIL: not published; what was spent stays spent" ;;
    3) echo "pipeline: WAITS FOR A PERSON: nobody has decided yet, see docs/reviewing.md" ;;
    4) echo "pipeline: INCOMPLETE: evidence is missing, out of date or too weak: not published" ;;
    5) echo "pipeline: INTEGRITY: this is not what it says it is: nobody touch it until that is explained" ;;
    *) echo "pipeline: stopped with exit code $1" ;;
  esac >&2
}

end() {
  explain "$1"
  exit "$1"
}

release() {
  # Its exit code is the verdict's: a release that waits or fails is written all the same, and judged by the gate stage.
  code=0
  dpsynth release "$DATA" --schema "$SCHEMA" --ledger "$LEDGER" --epsilon "$EPSILON" --delta "$DELTA" \
    --holdout "${HOLDOUT:-0}" --synthesizer "${SYNTHESIZER:-aim}" --policy "$POLICY" --key "$KEY" \
    --job-id "$JOB" --out "$DESK" || code=$?
  case $code in
    0 | 1 | 3 | 4) explain "$code" ;;
    *) end "$code" ;;
  esac
}

verify() {
  code=0
  dpsynth verify "$1" --policy "$POLICY" || code=$?
  [ "$code" -eq 0 ] || end "$code"
}

judge() {
  # Judges a folder and writes what a pipeline shows; $2 says where.
  mkdir -p "$2"
  rm -f "$2/gate.xml" "$2/gate.sarif" "$2/summary.md"
  code=0
  dpsynth gate "$1" --policy "$POLICY" --junit "$2/gate.xml" --sarif "$2/gate.sarif" || code=$?
  shown=0
  dpsynth report "$1" --policy "$POLICY" --format md --out "$2/summary.md" || shown=$?
  if [ -f "$2/summary.md" ] && [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
    cat "$2/summary.md" >> "$GITHUB_STEP_SUMMARY"
  fi
  [ "$code" -eq 0 ] || end "$code"
  [ "$shown" -eq 0 ] || end "$shown"
  explain 0
}

publish() {
  # The copy is judged, not the original: what changes in between is not published.
  [ ! -e "$SHELF" ] || { echo "pipeline: $SHELF is taken" >&2; exit 2; }
  rm -rf "$SHELF.new"
  trap 'rm -rf "$SHELF.new"' EXIT
  cp -R "$DESK/release" "$SHELF.new"
  verify "$SHELF.new"
  judge "$SHELF.new" "$LOGS"
  mv "$SHELF.new" "$SHELF"
}

case ${1:-} in
  release) release ;;
  verify) verify "$DESK" ;;
  gate) judge "$DESK" "$LOGS" ;;
  publish) publish ;;
  again)
    verify "$SHELF"
    judge "$SHELF" "$LOGS"
    ;;
  *)
    echo "usage: pipeline.sh release | verify | gate | publish | again" >&2
    exit 2
    ;;
esac
